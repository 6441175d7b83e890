"""A page on which several runs answer a question side by side. Names the files that its driver and its worker share."""

from __future__ import annotations

from pathlib import Path

HOST = "127.0.0.1"  # this machine alone


def names_file(folder: Path) -> Path:
    """In the folder of the worker: what the models are called, in the order of their folders."""
    return folder / "names.json"


def models_folder(folder: Path) -> Path:
    """In the folder of the worker: a folder for each model, with its configuration."""
    return folder / "models"


def uploads_folder(folder: Path) -> Path:
    """In the folder of the worker: the pictures that came by the page."""
    return folder / "uploads"
