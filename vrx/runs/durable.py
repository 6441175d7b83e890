"""Files and folders that survive a loss of power: on the disk before anything refers to them, and replaced last.

A file or folder is made under a name that begins with a dot and ends with `.partial`, and gets its own name when it is
complete. A killed process leaves such partial files; `remove_abandoned` and `remove_leftovers` delete them.
"""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import time
from contextlib import suppress
from pathlib import Path

from vrx.runs.run_dir import RunDir

MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # in the names of partial files
MANY_FILES = 64  # from here on the whole file system is synced, which takes as long as a few files
ABANDONED_SECONDS = 24 * 3600  # after which a partial file of another machine counts as abandoned


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        if path.is_dir():
            with suppress(OSError):  # some network file systems cannot sync a folder
                os.fsync(file)
        else:
            os.fsync(file)
    finally:
        os.close(file)


def sync_tree(folder: Path) -> None:
    """Wait until everything below a folder is on the disk."""
    paths = [folder, *folder.rglob("*")]
    if len(paths) > MANY_FILES:
        os.sync()
        return
    for path in reversed(paths):
        sync(path)


def partial_file(path: Path) -> Path:
    """The name under which this process writes a file until it is complete."""
    return path.with_name(f".{path.name}.{MACHINE}.{os.getpid()}.partial")


def partial_folder(folder: Path) -> Path:
    """The name under which a folder is made until it is complete."""
    return folder.with_name(f".{folder.name}.partial")


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a complete folder its name; a folder that has this name is replaced, and deleted last."""
    sync_tree(partial)
    replaced = partial_folder(folder.with_name(f"{folder.name}.replaced"))
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.is_dir():
        folder.replace(replaced)
    partial.replace(folder)
    sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Delete what killed processes left when they wrote this file; files of processes that still write it stay."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        machine, process = partial.name.split(".")[-3:-1]
        with suppress(OSError):
            is_old = time.time() - partial.stat().st_mtime > ABANDONED_SECONDS
            if is_old or (machine == MACHINE and process.isdigit() and not _is_alive(int(process))):
                partial.unlink()


def remove_leftovers(run_dir: Path) -> None:
    """Delete what killed commands left in a run directory, whose lock is held: partial files, and the checkpoints of
    a training that is finished."""
    directory = RunDir(run_dir)
    for folder in (run_dir, directory.answers, directory.checkpoints):
        for partial in folder.glob(".*.partial"):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                with suppress(OSError):
                    partial.unlink()
    has_result = directory.adapter.is_dir() or directory.projector.is_dir()
    if directory.train_summary.is_file() and has_result:
        shutil.rmtree(directory.checkpoints, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
