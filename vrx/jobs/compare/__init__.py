"""Answers one question by several runs side by side. Names the file that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path


def answers_file(folder: Path) -> Path:
    """In the folder of the worker: the answer of each run and its probabilities, in the order of the folders."""
    return folder / "answers.json"
