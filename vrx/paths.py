"""Paths that configurations and data name."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

PACKAGE = Path(__file__).parent
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())


def located(path: str) -> str:
    """A path as given, but `vrx:…` inside the installed package."""
    return str(PACKAGE / path.removeprefix("vrx:")) if path.startswith("vrx:") else path


DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "valid is a folder that can be written to, see runtime.output_root",
    ),
}


def disk_refusal(error: Exception, place: Path | None = None) -> str | None:
    """One line for a disk or folder that takes no file; None for any other error."""
    said = re.search(r"os error (\d+)", str(error))  # safetensors tells no more
    number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
    if number not in DISK:
        return None
    where = getattr(error, "filename", None) or place or "the disk"
    return f"{where}: {os.strerror(number)}; {DISK[number]}; the same command goes on from here"


def inside(folder: Path, relative: str) -> Path:
    """The path that data names in a folder; `ValueError` where it would leave it.

    What counts is the name: a link that the owner of the folder put there may lead elsewhere, as in LLaVA's layout,
    where the data sets are often linked.
    """
    path = Path(os.path.normpath(relative))
    if path.is_absolute() or path.parts[:1] == ("..",):
        raise ValueError(f"{relative} leaves the folder {folder}")
    return folder / path


def fetched(key: str, name: str, *, weights: bool = True) -> Path:
    """The folder of a model: one on this machine, or a hub repository's, downloaded where it is not in the cache yet.

    Of the weights safetensors are fetched, `.bin` files only where there are none; code never. What cannot be had is a
    `FileNotFoundError` that names the configuration's `key`.
    """
    path = Path(located(name))
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise FileNotFoundError(f"{key}={name}: no such folder, and no id of a hub repository")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    small = ["*.json", "*.model"]
    loose = ["*.safetensors", "mm_projector.bin", "non_lora_trainables.bin"]
    try:
        found = Path(snapshot_download(name, allow_patterns=small + loose * weights, ignore_patterns=["*/*"]))
        if weights and not any(file.suffix == ".safetensors" for file in found.iterdir()):
            snapshot_download(name, allow_patterns=["*.bin"], ignore_patterns=["*/*"])
        return found
    except GatedRepoError:
        told = "the hub wants an account for it: accept its licence there, then hf auth login"
    except RepositoryNotFoundError:
        told = "no folder here, and the hub has no such repository"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        told = (
            f"no folder here, not in the hub's cache, and the hub cannot be asked; with a network: hf download {name}"
        )
    raise FileNotFoundError(f"{key}={name}: {told}")
