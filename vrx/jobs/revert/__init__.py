"""Puts layers of a tuned LVLM back to the backbone's weights. Names the files that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path


def reversions_file(run_dir: Path) -> Path:
    """In the directory that a worker is started in: the names of the directories it answers in."""
    return run_dir / "reversions.json"
