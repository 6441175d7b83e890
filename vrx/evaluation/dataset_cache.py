"""From a benchmark's own data to the one form that the families read, once: `<cache>/<name>-<digest>.jsonl`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.dataset_source import Source, is_hub_id
from vrx.runs.files import digest, write_atomic
from vrx.runs.hub import hub_commit
from vrx.runs.locks import shared_resource_lock

VERSION = 2  # of what readers write; a change converts anew
DATA = {
    ".json",
    ".jsonl",
    ".gz",
    ".zip",
    ".tsv",
    ".csv",
    ".p",
    ".parquet",
    ".arrow",
    ".txt",
    ".token",
    ".tokens",
    ".raw",
}


def convert(name: str, config: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark with its questions in our form: as it is where they are so already, else converted by its reader.

    Images come from `image_folder`, else from `images/` beside the questions, else from where the questions lie; those
    that stand inside the data are written to a folder of their own.
    """
    if config.reader is None or config.path is None or _is_ours(Path(config.path)):
        return config
    place, cache = Path(config.path), Path(config.cache).absolute()
    if not place.exists() and not is_hub_id(config.path):
        raise UserError(f"benchmark.{name}.path={config.path}: no such file or folder, and no hub id")
    commit = dataset_commit(config)
    made_from = [VERSION, config.reader, str(place.absolute()), config.subset, config.split, _state(place, cache)]
    stem = f"{name}-{digest([*made_from, commit] if commit else made_from)[:12]}"
    target, own_images = cache / f"{stem}.jsonl", cache / f"{stem}-images"
    with shared_resource_lock(target):
        if not target.is_file():
            revision = commit or config.revision
            source = Source(name, config.path, config.subset, config.split, own_images, revision=revision)
            rows = resolve_name("reader", config.reader, key=f"benchmark.{name}.reader")(source)
            lines = [_line(row) for row in tqdm(rows, desc=f"reading {name}", delay=1, unit=" questions")]
            if not lines:
                raise UserError(f"benchmark.{name}.path={config.path} split={config.split}: holds no question")
            write_atomic(target, "".join(lines))
    return dataclasses.replace(config, path=str(target), image_folder=_image_folder(config, own_images), reader=None)


def dataset_commit(config: BenchmarkConfig) -> str | None:
    """The commit of the hub data set that a benchmark reads: that of `revision`, else of the main branch when it was
    first read; None for local files, and where the hub cannot be reached."""
    if config.reader is None or config.path is None or not is_hub_id(config.path):
        return None
    return hub_commit(config.path, config.revision, kind="dataset")


def _line(row: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False) + "\n"


def _is_ours(path: Path) -> bool:
    """Whether a file is JSON Lines of our own form, by its first row: an `id`, and a `question` or a `text`."""
    if path.suffix != ".jsonl" or not path.is_file():
        return path.suffix == ".jsonl" and not path.exists()  # the family says that it is not there
    with path.open("rb") as file:
        try:
            row = json.loads(file.readline())
        except ValueError:
            return True  # the family names the line
    return not isinstance(row, dict) or "id" in row


def _image_folder(config: BenchmarkConfig, own_images: Path) -> str | None:
    place = Path(config.path or "")
    beside = place if place.is_dir() else place.parent
    if own_images.is_dir():
        return str(own_images)
    if config.image_folder is not None or not place.exists():
        return config.image_folder
    return str(beside / "images" if (beside / "images").is_dir() else beside)


def _state(place: Path, cache: Path) -> list[Any]:
    """What tells one state of local data from another; a hub's data set is told by its commit."""
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.suffix in DATA)
    files = [path for path in found if cache not in path.absolute().parents]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
