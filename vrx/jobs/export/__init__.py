"""Writes a run for use without vrx. Names the folder that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path


def files_folder(folder: Path) -> Path:
    """In the folder of the worker: what is exported, until it is complete and gets its own name."""
    return folder / "files"
