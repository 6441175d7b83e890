"""Answers one question by several runs side by side. Names the file that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path


def answers_file(folder: Path) -> Path:
    """In the folder of the worker: the answer of each run and its probabilities, in the order of the folders."""
    return folder / "answers.json"


def model_folders(folder: Path) -> list[Path]:
    """The folders of the runs that are asked, in order; each holds a configuration."""
    return sorted(path for path in folder.iterdir() if path.is_dir())
