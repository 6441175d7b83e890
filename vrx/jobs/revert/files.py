"""Files of reversions that their driver and their worker share."""

from __future__ import annotations

from pathlib import Path


def reversions_file(run_dir: Path) -> Path:
    """In the directory that a worker is started in: the names of the directories it answers in."""
    return run_dir / "reversions.json"
