"""Errors that a user can mend: one line, exit status 2."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class UserError(ValueError):
    """Something a user can mend: shown as one line with exit status 2."""


class BadImage(UserError):
    """An image that is missing or cannot be decoded."""


class RunFailed(RuntimeError):
    """A worker ended badly; its own line said why."""


DISK_ERRORS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "valid is a folder that can be written to, see runtime.output_root",
    ),
}


def disk_error_message(error: Exception, place: Path | None = None) -> str | None:
    """One line for a disk or folder that takes no file; None for any other error."""
    said = re.search(r"os error (\d+)", str(error))  # safetensors tells no more
    number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
    if number not in DISK_ERRORS:
        return None
    where = getattr(error, "filename", None) or place or "the disk"
    return f"{where}: {os.strerror(number)}; {DISK_ERRORS[number]}; the same command goes on from here"


class NoScores(FileNotFoundError):
    """There are no scores yet where they are asked for."""
