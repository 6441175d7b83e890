"""Locks between commands: one command works on a run, one at a time makes what several need.

A lock belongs to its process and ends with it, however that ends. On a file system without locks a marker file with the
process's number takes its place, which other processes of the same machine remove once that process has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vrx.config.errors import RunFailed
from vrx.runs.durable import remove_leftovers
from vrx.runs.results import require_weights
from vrx.runs.run_dir import RunDir

PROBE_SECONDS = 0.05  # another probe holds a lock for less
CLAIM_SECONDS = 1.0  # of waiting for probes to end, before the run counts as another command's


@contextmanager
def exclusive_lock(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is made if needed; `RunFailed` where another command holds it.

    What killed commands left in the directory is deleted.

    `UserError` for a copy without weights, which is only read.
    """
    require_weights(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(RunDir(run_dir).lock)
    try:
        lock.acquire(timeout=CLAIM_SECONDS)
    except Timeout:
        raise RunFailed(f"{run_dir}: another vrx works on this run; wait for it or stop it") from None
    try:
        remove_leftovers(run_dir)
        yield
    finally:
        lock.release()


@contextmanager
def shared_resource_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that several runs need; waits while another command makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        yield


def is_locked(run_dir: Path) -> bool:
    """Whether another command works on this run now."""
    file = RunDir(run_dir).lock
    if not file.is_file():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=PROBE_SECONDS, poll_interval=PROBE_SECONDS / 5)
    except Timeout:
        return True
    except PermissionError:  # of a directory of another user, on which no command of this one works
        return False
    lock.release()
    return False
