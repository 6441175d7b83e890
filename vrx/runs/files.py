"""Files that are written whole or not at all, and their digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.durable import partial_file, remove_abandoned, sync
from vrx.runs.json_text import InvalidJson, parse_json

POINTER = b"version https://git-lfs.github.com/spec/"  # the beginning of a file that Git LFS keeps elsewhere


def digest(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file so that it is there whole or not at all, also after a kill or a loss of power.

    mode: of the file from its first byte on, less the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    partial = partial_file(path)
    try:
        partial.unlink(missing_ok=True)
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk does not say whose write it was
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; a broken one is a `UserError` that names it."""
    content = path.read_bytes()
    try:
        return parse_json(content)
    except InvalidJson as error:
        raise UserError(f"{path}: {pointer_error(content) or error}") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that must hold an object, such as a model's configuration; else `UserError`."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a JSON object, is {str(content)[:40]!r}")
    return content


def pointer_error(content: bytes) -> str | None:
    """What to say about a file that begins with this content, if Git LFS keeps the file elsewhere; else None."""
    if not content.startswith(POINTER):
        return None
    return "a pointer of Git LFS, not the file itself; run: git lfs pull, or download it again"


def refuse_pointer(path: Path) -> None:
    """Refuse a file in whose place Git LFS has left a pointer: `UserError` names it and the command that fetches it."""
    with path.open("rb") as file:
        if message := pointer_error(file.read(len(POINTER))):
            raise UserError(f"{path}: {message}")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines log that may still be written; from one that was cut on, they are left out."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row = parse_json(line, is_line=True)
        except InvalidJson:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_file_digest(path: Path, cache: Path | None, *, read_only: bool = False) -> str:
    """The sha256 of a large file.

    cache: folder that stores the digest until the file's size or modification time changes. read_only: write nothing.
    """
    path = path.resolve()
    stat = path.stat()
    file = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if cache is None:
        return _digest_of(**file)
    cached_digest = cache / f"digest-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    cached = read_json(cached_digest) if cached_digest.is_file() else {}
    if isinstance(cached, dict) and cached.items() >= file.items() and isinstance(cached.get("sha256"), str):
        return cached["sha256"]
    sha256 = _digest_of(**file)
    if not read_only:
        write_json(cached_digest, {**file, "sha256": sha256})
    return sha256


@functools.lru_cache(maxsize=256)
def _digest_of(path: str, size: int, mtime_ns: int) -> str:
    """Cached, because every run of a sweep needs the digest and real files are a gigabyte long."""
    return file_digest(Path(path))
