"""Paths that configurations and data name."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from vrx.config.errors import UserError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"  # installed, or in a checkout


SAFE_NAME = re.compile(r"(?!\.)[\w.+=-]+", re.ASCII)
UNSAFE = re.compile(r"[^\w.+=-]", re.ASCII)
MAX_NAME_LENGTH = 120  # characters, or bytes, of the 255 that file systems allow


def check_conf() -> None:
    """`UserError` where the folder of configurations is missing."""
    if not (CONF / "config.yaml").is_file():
        raise UserError(f"{CONF}: no configurations there; install vrx again, or run it in a full checkout")


def resolve_path(path: str) -> str:
    """A path as given, but `vrx:…` inside the installed package."""
    return str(PACKAGE / path.removeprefix("vrx:")) if path.startswith("vrx:") else path


def inside(folder: Path, relative: str) -> Path:
    """The path that data name in a folder, relative to it or absolute; `UserError` where it would leave it.

    What counts is the name: a link that the owner of the folder put there may lead elsewhere, as in LLaVA's layout,
    where the data sets are often linked. An absolute path may also name the folder without its links.
    """
    path = Path(os.path.normpath(relative))
    names = (os.path.normpath(folder.absolute()), folder.resolve()) if path.is_absolute() else ()
    if any(path.is_relative_to(name) for name in names):
        return path
    if path.is_absolute() or path.parts[:1] == ("..",):
        raise UserError(f"{relative} leaves the folder {folder}; valid is a path in it, relative or absolute")
    return folder / path


def as_file_name(text: str) -> str:
    """A text, such as a model's name in somebody's record, as the name of a file or folder.

    What names neither a folder nor anything outside stays as it is. Any other text is shortened to its letters, digits
    and `._+=-`, and a hash of the whole, so that different texts have different names.
    """
    if SAFE_NAME.fullmatch(text) and len(text) <= MAX_NAME_LENGTH:
        return text
    short_hash = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{re.sub(UNSAFE, '_', text)[:MAX_NAME_LENGTH].lstrip('.')}-{short_hash}"


def below(root: Path, *names: str) -> Path:
    """The path of a file or folder below a root, whatever the names are: none leaves it, or names a folder more."""
    return root.joinpath(*map(as_file_name, names))


def refuse_foreign_folder(folder: Path, marker: str, *, key: str) -> None:
    """Refuse a folder that is to be replaced and holds what vrx did not make: `UserError` with the key that names it.

    marker: the file that vrx leaves in every such folder.
    """
    if not folder.exists() or (folder / marker).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{key}={folder}: holds files that vrx did not make; valid is a new or empty folder")
