"""Log lines on the terminal, from rank 0 only."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

from vrx.config.plain_text import visible


def rank() -> int:
    """The number of this process among the workers of its stage; 0 in the driver."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the driver or rank 0, which writes the log lines and the files of the run."""
    return rank() == 0


def log(message: str) -> None:
    """Print one line to stderr, from rank 0 only; what a terminal would act on is escaped.

    A progress bar moves below the line.
    """
    if is_main():
        tqdm.write(f"vrx: {visible(message)}", file=sys.stderr)
