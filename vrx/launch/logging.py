"""One line on the terminal, from rank 0 alone."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    return rank() == 0


def log(message: str) -> None:
    """One line on the terminal, from rank 0 alone; a progress line that stands there moves below it."""
    if is_main():
        tqdm.write(f"vrx: {message}", file=sys.stderr)
