"""Locks between commands: one works on a run, one at a time makes what several need."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vrx.config.errors import RunFailed


@contextmanager
def exclusive_lock(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock; it falls with the process, so a killed run leaves none behind."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFailed(f"{run_dir}: another vrx works on this run; wait for it or stop it") from None
        yield


@contextmanager
def shared_resource_lock(folder: Path) -> Iterator[None]:
    """Wait for one's turn at making a folder that several runs need."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(run_dir: Path) -> bool:
    """Whether a process works on this run now."""
    if not (run_dir / ".lock").is_file():
        return False
    with (run_dir / ".lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
