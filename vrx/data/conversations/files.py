"""The records of conversation files: JSON lists, JSON Lines and Parquet, alone or as a folder or data set of the hub.

Each is read in pieces, so that a file of gigabytes is never in memory at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.instruction_sources import InstructionSource
from vrx.data import json_stream
from vrx.runs.files import cached_file_digest
from vrx.runs.hub_datasets import dataset_folder

SUFFIXES = (".json", ".jsonl", ".parquet")
SPLITS = ("train", "val", "validation", "test", "dev")
ROWS_AT_A_TIME = 16  # of Parquet: pictures are megabytes each


def conversation_files(source: InstructionSource, key: str, *, local_only: bool = False) -> list[Path]:
    """The files of a source of conversations, in order; `key` names its part of the configuration in errors.

    source.path is a file, a folder of Parquet files or a hub id of one; `subset` is a folder inside it. local_only:
    download nothing.
    """
    if source.path is None:
        raise UserError(f"{key}.path=null: name conversations: JSON, JSON Lines, Parquet, or a data set of the hub")
    path = Path(source.path)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UserError(f"{key}.path={path}: valid are files that end in {', '.join(SUFFIXES)}")
        return [path]
    if not path.is_dir():
        path = dataset_folder(f"{key}.path", source.path, source.revision, source.subset, local_only=local_only)
    folder = path / source.subset if source.subset else path
    if not folder.is_dir():
        raise UserError(f"{key}.subset={source.subset}: no such folder in {path}; there are {_folders(path)}")
    files = sorted(file for file in folder.rglob("*.parquet") if file.is_file() and file.name[0] not in "._")
    if not files:
        raise UserError(f"{key}.path={source.path}: holds no Parquet file")
    if source.subset is None and len({file.parent for file in files}) > 1:
        raise UserError(f"{key}.subset=null: {source.path} has several; name one of {_folders(path)}")
    splits = {file: file.name.split("-")[0].split(".")[0] for file in files}
    if set(splits.values()) & set(SPLITS):
        files = [file for file in files if splits[file] == source.split]
        if not files:
            there = ", ".join(sorted(set(splits.values())))
            raise UserError(f"{key}.split={source.split}: {source.path} has no such split; there are {there}")
    return files


def source_digest(source: InstructionSource, key: str, cache: Path | None, *, read_only: bool = False) -> str:
    """The sha256 of what a source holds: that of its file, or of the digests of its files in their order."""
    files = conversation_files(source, key, local_only=read_only)
    digests = [cached_file_digest(file, cache, read_only=read_only) for file in files]
    combined = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    if not source.columns:
        return combined
    return hashlib.sha256(json.dumps([combined, dict(sorted(source.columns.items()))]).encode()).hexdigest()


def stream_records(files: list[Path], while_reading: Callable[[int], object]) -> Iterator[tuple[str, Any]]:
    """File and number of each record, and the record; `UserError` names a file that cannot be read.

    `while_reading` is called with the number of bytes of each piece read.
    """
    for file in files:
        if file.suffix == ".parquet":
            records = _parquet(file, while_reading)
        elif file.suffix == ".jsonl":
            records = _json_lines(file, while_reading)
        else:
            records = enumerate(json_stream.stream_items(file, while_reading=while_reading))
        for number, record in records:
            yield f"{file}: record {number}", record


def _json_lines(file: Path, while_reading: Callable[[int], object]) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            while_reading(len(line))
            if not line.strip():
                continue
            try:
                yield number - 1, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{file}: line {number}: not UTF-8: {error}") from None
            except json.JSONDecodeError as error:
                raise UserError(f"{file}: line {number}: not valid JSON: {error.msg}") from None
            except (RecursionError, ValueError) as error:
                raise UserError(f"{file}: line {number}: not valid JSON: {error}") from None


def _parquet(file: Path, while_reading: Callable[[int], object]) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            share = file.stat().st_size / max(1, table.metadata.num_rows)
            for batch in table.iter_batches(ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
                while_reading(int(share * batch.num_rows))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet: {(str(error).splitlines() or ['damaged'])[0]}") from None


def _folders(path: Path) -> str:
    names = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and folder.name[0] not in "._")
    return ", ".join(names) or "none"
