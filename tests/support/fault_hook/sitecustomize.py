"""Numbers the renames and syncs below a folder of all processes that load this, and keeps what is there before each.

Before point 12 the folder is copied to `<FAULT_NOTES>/12`, and `<FAULT_NOTES>/12.json` holds the inodes of the folder
and of all that is below it, and how many lines of `<FAULT_NOTES>/synced` were written so far. Such a line is one of

    {"file": inode, "size": bytes}    a file is on the disk up to this size; it stays as `<FAULT_NOTES>/kept/<inode>`
    {"folder": inode, "names": {}}    the names in a folder are on the disk: an inode for each
    {"gone": inode}                   a folder was deleted, and its inode may be another one's from now on
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT, NOTES = Path(os.environ["FAULT_ROOT"]), Path(os.environ["FAULT_NOTES"])
LINE = 400  # bytes of a line in `points`
real_fsync, real_sync = os.fsync, os.sync


def _append(name: str, text: str) -> int:
    """Append a text to a file of notes; returns the size of the file."""
    file = os.open(NOTES / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, text.encode())
        return os.lseek(file, 0, os.SEEK_CUR)
    finally:
        os.close(file)


def _is_below(path: Path) -> bool:
    return path.is_relative_to(ROOT)


def _point(kind: str, path: Path) -> None:
    line = f"{kind} {os.path.relpath(path, ROOT)}"
    number = _append("points", line[: LINE - 1].ljust(LINE - 1) + "\n") // LINE
    inodes: dict[str, int] = {}
    _copy(ROOT, NOTES / str(number), inodes)
    synced = NOTES / "synced"
    num_lines = len(synced.read_text().splitlines()) if synced.exists() else 0
    (NOTES / f"{number}.json").write_text(
        json.dumps({"root": ROOT.stat().st_ino, "inodes": inodes, "num_lines": num_lines})
    )


def _copy(folder: Path, to: Path, inodes: dict[str, int]) -> None:
    to.mkdir()
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # deleted in the meantime by another process
            inodes[os.path.relpath(entry.path, ROOT)] = entry.inode()
            if entry.is_dir(follow_symlinks=False):
                _copy(Path(entry.path), to / entry.name, inodes)
            else:
                shutil.copy2(entry.path, to / entry.name, follow_symlinks=False)


def _note_synced(path: Path) -> None:
    """Note that a file or the names in a folder are on the disk."""
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        note: dict[str, Any] = {
            "folder": state.st_ino,
            "names": {entry.name: entry.inode() for entry in os.scandir(path)},
        }
    else:
        with suppress(FileExistsError):
            os.link(path, NOTES / "kept" / str(state.st_ino))
        note = {"file": state.st_ino, "size": state.st_size}
    _append("synced", json.dumps(note) + "\n")


def _fsync(file: Any) -> None:
    path = Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").readlink()
    if _is_below(path):
        _point("sync", path)
    real_fsync(file)
    if _is_below(path):
        _note_synced(path)


def _sync() -> None:
    _point("sync", ROOT)
    real_sync()
    note_tree()


def note_tree() -> None:
    """Note that all that is below the folder is on the disk."""
    for folder, _, names in os.walk(ROOT):
        for name in (*names, "."):
            _note_synced(Path(folder, name))


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename" and _is_below(target := Path.cwd() / os.fsdecode(arguments[1])):
        _point("rename", target)
    elif event == "os.rmdir":
        path, parent = arguments
        with suppress(OSError):
            state = os.stat(path, dir_fd=None if parent == -1 else parent)
            _append("synced", json.dumps({"gone": state.st_ino}) + "\n")


os.fsync, os.sync = _fsync, _sync
sys.addaudithook(_on_event)
