"""Question files `<cache>/<name>-<digest>.jsonl`: a benchmark's own data, converted once to the form families read."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.data.instructions.record_checks import refuse_unreadable_texts
from vrx.evaluation.dataset_source import Source, is_hub_id
from vrx.evaluation.question_rows import QuestionRow
from vrx.runs.durable import sync_tree
from vrx.runs.files import digest, write_atomic
from vrx.runs.hub import hub_commit
from vrx.runs.json_text import InvalidJson, parse_json
from vrx.runs.locks import shared_resource_lock

VERSION = 2  # of the rows that readers write; data are converted again when it changes
TABLE_SUFFIXES = {".json", ".jsonl", ".tsv", ".csv", ".parquet", ".arrow"}
DATA_SUFFIXES = TABLE_SUFFIXES | {".gz", ".zip", ".p", ".txt", ".token", ".tokens", ".raw"}


class NotConverted(UserError):
    """The data of a benchmark have not been converted yet."""


def convert(name: str, config: BenchmarkConfig, *, read_only: bool = False) -> BenchmarkConfig:
    """The benchmark with `path` naming a question file: its own, or one that its reader makes from its data.

    Images come from `image_folder`, else from `images/` in the folder of the data, else from that folder. Images that
    are part of the data are written to a folder beside the question file.
    """
    if config.reader is None or config.path is None or _is_question_file(Path(config.path)):
        return config
    path, cache = Path(config.path), Path(config.cache).absolute()
    if not path.exists() and not is_hub_id(config.path):
        raise UserError(f"benchmark.{name}.path={config.path}: no such file or folder, and no hub id")
    commit = dataset_commit(config)
    made_from = [VERSION, config.reader, str(path.absolute()), config.subset, config.split, _file_states(path, cache)]
    stem = f"{name}-{digest([*made_from, commit] if commit else made_from)[:12]}"
    target, own_images = cache / f"{stem}.jsonl", cache / f"{stem}-images"
    if read_only and not target.is_file():
        raise NotConverted(f"benchmark.{name}.path={config.path}: not converted yet")
    with nullcontext() if read_only else shared_resource_lock(target):
        if not target.is_file():
            revision = commit or config.revision
            source = Source(name, config.path, config.subset, config.split, own_images, revision=revision)
            rows = resolve_name("reader", config.reader, key=f"benchmark.{name}.reader")(source)
            lines = [_line(row, name) for row in tqdm(rows, desc=f"reading {name}", delay=1, unit=" questions")]
            if not lines:
                raise UserError(f"benchmark.{name}.path={config.path} split={config.split}: holds no question")
            if own_images.is_dir():
                sync_tree(own_images)  # before the question file refers to them
            write_atomic(target, "".join(lines))
    return dataclasses.replace(config, path=str(target), image_folder=_image_folder(config, own_images), reader=None)


def dataset_commit(config: BenchmarkConfig) -> str | None:
    """The commit of the hub data set that a benchmark reads: that of `revision`, else of the main branch when it was
    first read; None for local files, and where the hub cannot be reached."""
    if config.reader is None or config.path is None or not is_hub_id(config.path):
        return None
    return hub_commit(config.path, config.revision, kind="dataset")


def _line(row: QuestionRow, name: str) -> str:
    try:
        refuse_unreadable_texts(row)
    except UserError as error:
        raise UserError(f"benchmark.{name}: question {ascii(row.get('id'))[:40]}: {error}") from None
    return json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False) + "\n"


def _is_question_file(path: Path) -> bool:
    """Whether a file is a question file already, by its first row, which has an `id`.

    True also for files that are missing or damaged in a way that the family reports better.
    """
    if path.suffix != ".jsonl" or not path.is_file():
        return path.suffix == ".jsonl" and not path.exists()  # the family reports that it is missing
    with path.open("rb") as file:
        try:
            row = parse_json(file.readline(), is_line=True)
        except InvalidJson:
            return True  # the family reports the line
    return not isinstance(row, dict) or "id" in row


def _image_folder(config: BenchmarkConfig, own_images: Path) -> str | None:
    path = Path(config.path or "")
    folder = path if path.is_dir() else path.parent
    if own_images.is_dir():
        return str(own_images)
    if config.image_folder is not None or not path.exists():
        return config.image_folder
    return str(folder / "images" if (folder / "images").is_dir() else folder)


def _file_states(path: Path, cache: Path) -> list[list[str | int]]:
    """Name, size and time of all local data files; a data set of the hub is identified by its commit."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in DATA_SUFFIXES)
    files = [file for file in files if cache not in file.absolute().parents]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
