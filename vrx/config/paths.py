"""Paths that configurations and data name."""

from __future__ import annotations

import os
from pathlib import Path

from vrx.config.errors import UserError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"  # installed, or in a checkout


def check_conf() -> None:
    """`UserError` where the folder of configurations is missing."""
    if not (CONF / "config.yaml").is_file():
        raise UserError(f"{CONF}: no configurations there; install vrx again, or run it in a full checkout")


def resolve_path(path: str) -> str:
    """A path as given, but `vrx:…` inside the installed package."""
    return str(PACKAGE / path.removeprefix("vrx:")) if path.startswith("vrx:") else path


def inside(folder: Path, relative: str) -> Path:
    """The path that data names in a folder; `UserError` where it would leave it.

    What counts is the name: a link that the owner of the folder put there may lead elsewhere, as in LLaVA's layout,
    where the data sets are often linked.
    """
    path = Path(os.path.normpath(relative))
    if path.is_absolute() or path.parts[:1] == ("..",):
        raise UserError(f"{relative} leaves the folder {folder}")
    return folder / path
