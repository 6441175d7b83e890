"""Model folders on this machine or from the Hugging Face Hub, where every name means one commit."""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path
from vrx.runs.files import write_atomic

Kind = Literal["model", "dataset"]
HUB_ID = r"[\w-][\w.-]*/[\w.-]+(@[\w.-][\w./-]*)?"  # owner/name, or owner/name@revision
COMMIT = r"[0-9a-f]{40}"
SMALL_FILES = ("*.json", "*.model", "*.jinja")
WEIGHT_FILES = ("*.safetensors", "mm_projector.bin", "non_lora_trainables.bin")


def split_revision(name: str) -> tuple[str, str | None]:
    """The repository and the revision of a hub id: a commit, tag or branch, None for the main branch."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def hub_commit(repository: str, revision: str | None = None, *, kind: Kind = "model") -> str | None:
    """The commit that a revision of a hub repository means; None where neither the cache nor the hub knows it.

    A revision keeps the meaning that it has in the local cache: what the hub answers is cached there, and
    `hf download` brings a newer commit.
    """
    if revision is not None and re.fullmatch(COMMIT, revision):
        return revision
    folder = _cache_folder(repository, kind)
    if folder is None or ".." in Path(revision or "").parts:
        return None
    ref = folder / "refs" / (revision or "main")
    if ref.is_file():
        return ref.read_text(encoding="utf-8").strip()
    commit = _ask_hub(repository, revision, kind)
    if commit is not None:
        with suppress(OSError):  # a cache of others, which this user cannot write to
            write_atomic(ref, commit)
    return commit


def cached_checkpoint(name: str) -> Path | None:
    """The folder of a model that is on this machine: a local folder, or a hub id in the local cache."""
    path = Path(resolve_path(name))
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository, revision = split_revision(name)
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def download_command(name: str) -> str:
    """The shell command that downloads a hub id."""
    repository, revision = split_revision(name)
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")


def resolve_checkpoint(key: str, name: str, *, weights: bool = True) -> Path:
    """The folder of a model: one on this machine, or a hub repository's, downloaded where it is not in the cache yet.

    Weights are downloaded as safetensors, as `.bin` files only where there are none; code is never downloaded. A model
    that cannot be found is a `UserError` that names the configuration's `key`.
    """
    path = Path(resolve_path(name))
    if path.is_dir():
        return path
    repository, revision = split_revision(name)
    if not re.fullmatch(HUB_ID, name) or _cache_folder(repository, "model") is None:
        raise UserError(f"{key}={name}: no such folder, and no id of a hub repository")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    commit = hub_commit(repository, revision)
    commit = commit if commit and re.fullmatch(COMMIT, commit) else revision
    try:
        patterns = [*SMALL_FILES, *(WEIGHT_FILES if weights else ())]
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=patterns, ignore_patterns=["*/*"]))
        if weights and not any(file.suffix == ".safetensors" for file in folder.iterdir()):
            snapshot_download(repository, revision=commit, allow_patterns=["*.bin"], ignore_patterns=["*/*"])
        return folder
    except GatedRepoError:
        reason = "the hub wants an account for it: accept its licence there, then hf auth login"
    except RepositoryNotFoundError:
        reason = "no folder here, and the hub has no such repository"
    except RevisionNotFoundError:
        reason = f"the hub's repository has no revision {revision}"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        reason = "no folder here, not in the hub's cache, and the hub cannot be reached; "
        reason += f"with a network: {download_command(name)}"
    raise UserError(f"{key}={name}: {reason}")


def _cache_folder(repository: str, kind: Kind) -> Path | None:
    """The folder of a repository in the local cache; None for a name that no repository can have."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name

    try:
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    except HFValidationError:
        return None


@functools.cache  # an unreachable hub is asked once a command
def _ask_hub(repository: str, revision: str | None, kind: Kind) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=10).sha
    except Exception:  # of a dozen kinds: unreachable, offline, refused; the download tells which
        return None
