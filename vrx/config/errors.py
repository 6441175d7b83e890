"""Errors that a user can correct: one line, exit status 2. Everything else is a bug and shows its traceback."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class UserError(ValueError):
    """A mistake that a user can correct; the message is one line with key, value and what is valid."""


class BadImage(UserError):
    """An image that is missing or cannot be decoded."""


class NoImportanceScores(UserError):
    """Layers are selected by importance scores that no run has computed yet; the message names the command."""


class RunFailed(UserError):
    """A run cannot go on: a worker has ended with an error or another process holds the run's lock."""


DISK_ERRORS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    errno.ENAMETOOLONG: "valid is a shorter name",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "valid is a folder that can be written to, see runtime.output_root",
    ),
}


def disk_error_message(error: BaseException, path: Path | None = None) -> str | None:
    """One line for a full disk or a folder that cannot be written to; None for any other error."""
    in_message = re.search(r"os error (\d+)", str(error))  # a SafetensorError has no errno
    number = error.errno if isinstance(error, OSError) else int(in_message[1]) if in_message else None
    if number not in DISK_ERRORS:
        return None
    file = getattr(error, "filename", None) or path or "the disk"
    return f"{file}: {os.strerror(number)}; {DISK_ERRORS[number]}; the same command resumes"


def user_message(error: BaseException, path: Path | None = None) -> str | None:
    """The line that a user sees for an error that a user can correct; None for a bug.

    path: the file or folder that was written to, for a full disk whose error does not name it.
    """
    return disk_error_message(error, path) or (str(error) if isinstance(error, UserError) else None)
