"""The files that a training left, under the digests that it wrote beside them."""

from __future__ import annotations

import functools
from pathlib import Path

from vrx.config.errors import UserError
from vrx.runs.files import file_digest
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary


def require_unchanged(run_dir: Path, result: str = "adapter") -> None:
    """`UserError` names the first file of a trained adapter or projector that is gone or has another content.

    A training of an earlier version left no digests, and is not checked. result: the folder in the run directory.
    """
    summary, folder = RunDir(run_dir).train_summary, run_dir / result
    if not summary.is_file() or not folder.is_dir():
        return
    for name, expected in (read_train_summary(summary).result or {}).items():
        file = folder / name
        if not file.is_file() or _digest(file, file.stat().st_size, file.stat().st_mtime_ns) != expected:
            raise UserError(
                f"{file}: damaged (not what the training left); restore it, or delete {summary} and {folder} to train "
                "again"
            )


@functools.lru_cache(maxsize=1 << 10)
def _digest(file: Path, size: int, mtime_ns: int) -> str:
    return file_digest(file)
