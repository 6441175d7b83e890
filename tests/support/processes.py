"""Processes that end with the test that started them, also when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A running process; at the end of the block it is killed if it still runs, and its pipes are closed.

    options: those of `subprocess.Popen`.
    """
    with subprocess.Popen(command, text=True, **options) as process:  # closes the pipes and waits
        try:
            yield process
        finally:
            process.kill()
