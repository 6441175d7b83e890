"""Checks weights, data, disk and cost before GPU-hours are spent."""

from __future__ import annotations

from pathlib import Path


def findings_file(folder: Path) -> Path:
    """What the worker of the check has found."""
    return folder / "loaders.json"
