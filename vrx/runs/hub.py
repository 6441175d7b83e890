"""Model folders on this machine, or downloaded from the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path


def resolve_checkpoint(key: str, name: str, *, weights: bool = True) -> Path:
    """The folder of a model: one on this machine, or a hub repository's, downloaded where it is not in the cache yet.

    Of the weights safetensors are fetched, `.bin` files only where there are none; code never. What cannot be had is a
    `UserError` that names the configuration's `key`.
    """
    path = Path(resolve_path(name))
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise UserError(f"{key}={name}: no such folder, and no id of a hub repository")
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
    raise UserError(f"{key}={name}: {told}")
