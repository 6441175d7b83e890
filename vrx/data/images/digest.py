"""Digest of the pictures that a training looks at, by which a resumed run notices that they were changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.config.schema import RunConfig
from vrx.data.conversations import conversation_mixture
from vrx.data.images.checks import THREADS
from vrx.data.instructions import instruction_dataset
from vrx.runs.checkpoint_files import newest_step
from vrx.runs.content_digest import image_digest
from vrx.runs.files import digest, read_json, read_json_object, write_json
from vrx.runs.identity import PRETRAIN
from vrx.runs.run_dir import RunDir

MISSING = "missing"
KEY = "pictures"  # in a run's data.json


def files_of_run(run: RunConfig, table: Path) -> list[Path]:
    """The pictures that the instruction data or captions of a run name; table: the folder of the converted data."""
    if is_pretrain(run) or run.model.is_assembled:
        source = run.captions if is_pretrain(run) else run.instructions
        names = instruction_dataset.first_row_of_images(instruction_dataset.open_table(table))
        return [inside(Path(source.image_folder), name) for name in names] if source.image_folder else []
    return conversation_mixture.picture_files(table)


def pictures_digest(files: Sequence[Path], cache: Path) -> str:
    """Digest of the content of files, whatever folder they are in; a missing file counts as missing.

    Sizes and times are looked at each time; contents are read again only where these changed. cache: a folder that
    remembers them.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        state = digest(list(threads.map(_state, files)))
        folder = digest(sorted({str(file.parent) for file in files}))[:16]
        remembered = cache / f"pictures-{folder}-{len(files)}.json"
        known = read_json(remembered) if remembered.is_file() else None
        if isinstance(known, dict) and known.get("state") == state and isinstance(known.get("content"), str):
            return known["content"]
        contents = hashlib.sha256()
        for value in tqdm(threads.map(_content, files), desc="pictures", total=len(files), delay=1, unit=" files"):
            contents.update(value.encode())
    write_json(remembered, {"state": state, "content": contents.hexdigest()[:32]})
    return contents.hexdigest()[:32]


def recorded_pictures(run: RunConfig, table: Path, cache: Path) -> dict[str, str]:
    """What `data.json` of a run says about its pictures; nothing where its data name none."""
    files = files_of_run(run, table)
    return {KEY: pictures_digest(files, cache)} if files else {}


def require_same_pictures(run: RunConfig, run_dir: Path, cache: Path) -> None:
    """`UserError` where a run has begun on pictures that were changed or deleted since.

    A run of an earlier version, which recorded no digest, is not checked.
    """
    directory = RunDir(run_dir)
    has_begun = directory.train_summary.is_file() or newest_step(run_dir) is not None
    data = read_json_object(directory.data) if has_begun and directory.data.is_file() else {}
    if KEY not in data or not Path(str(data.get("table"))).is_dir():
        return
    files = files_of_run(run, Path(data["table"]))
    if pictures_digest(files, cache) == data[KEY]:
        return
    section = (run.captions if is_pretrain(run) else run.instructions).section
    num_missing = sum(not file.is_file() for file in files)
    raise UserError(
        f"{section}.image_folder: pictures were changed or deleted since {run_dir.name} began ({num_missing} of "
        f"{len(files)} are missing); restore them, or train on the new ones below another runtime.output_root"
    )


def is_pretrain(run: RunConfig) -> bool:
    """Whether a run trains on captions."""
    return run.job.name == PRETRAIN


def _state(file: Path) -> list[str | int]:
    try:
        state = file.stat()
    except OSError:
        return [str(file), MISSING]
    return [str(file), state.st_size, state.st_mtime_ns]


def _content(file: Path) -> str:
    return image_digest(file) if file.is_file() else MISSING
