"""Prunes layers and measures what that saves. Names the files that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path


def result_file(run_dir: Path) -> Path:
    """Parameters, memory and speed before and after; the last file that the worker writes."""
    return run_dir / "prune.json"
