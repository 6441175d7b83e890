"""Data sets of the Hugging Face Hub as folders on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from vrx.config.errors import UserError
from vrx.runs.hub import HUB_ID, hub_commit


def dataset_folder(key: str, name: str, revision: str | None, subset: str | None, *, local_only: bool = False) -> Path:
    """The folder of a data set of the hub, whose Parquet files are downloaded where they are not in the cache yet.

    subset: the folder of it that is needed; None for all. local_only: download nothing. `UserError` names the
    configuration's `key`.
    """
    if not re.fullmatch(HUB_ID, name):
        raise UserError(f"{key}={name}: no such file or folder, and no id of a hub data set")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pattern = f"{subset}/*.parquet" if subset else "*.parquet"
    try:
        commit = hub_commit(name, revision, kind="dataset") or revision
        folder = snapshot_download(
            name, repo_type="dataset", revision=commit, allow_patterns=[pattern], local_files_only=local_only
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        flags = f" --revision {revision}" if revision else ""
        command = f"hf download {name} --repo-type dataset --include '{pattern}'{flags}"
        raise UserError(
            f"{key}={name}: no file or folder here, not in the hub's cache, and not to be had from the hub; "
            f"with a network: {command}"
        ) from None
    return Path(folder)
