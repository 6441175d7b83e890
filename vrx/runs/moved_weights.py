"""Finished runs whose base weights were moved: the frozen folders are gone, the command names the present ones."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig, RunConfig
from vrx.runs.content_digest import content_digests, part_fingerprint
from vrx.runs.hub import HUB_ID
from vrx.runs.identity import NAMES, Identity

PARTS = NAMES[1:]  # of a model
FOLDER_FINGERPRINT = r"[0-9a-f]{16}"  # a hub repository's is a commit or its id


def with_moved_weights(frozen: RunConfig, identity: Identity, command: ModelConfig, *, run_dir: Path) -> RunConfig:
    """The frozen configuration of a run, with the command's folders for the parts of the model that are gone.

    command: the model that the command names. `UserError` where its weights are not those of the run's identity.
    """
    missing = [part for part in PARTS if _is_gone(part, getattr(frozen.model, part), identity)]
    if not missing:
        return frozen
    model = dataclasses.replace(frozen.model, **{part: getattr(command, part) for part in missing})
    for part in missing:
        name = getattr(model, part)
        if not _is_present(name):
            problem = "is not there either"
        elif not _has_same_content(model, part, identity):
            problem = "has another content"
        else:
            continue
        raise UserError(
            f"job.run={run_dir}: its {part}, {getattr(frozen.model, part)}, is gone and model.{part}={name} {problem}; "
            f"name its folder by model.{part}=<folder>"
        )
    return dataclasses.replace(frozen, model=model)


def _is_gone(part: str, name: str | None, identity: Identity) -> bool:
    """Whether a part of the model was a local folder that no longer exists."""
    if not name or Path(resolve_path(name)).is_dir():
        return False
    was_folder = re.fullmatch(FOLDER_FINGERPRINT, identity["weights"].get(part, ""))
    return bool(was_folder) or not re.fullmatch(HUB_ID, name)


def _is_present(name: str | None) -> bool:
    """Whether this is a folder here, or may be on the hub."""
    return bool(name) and (Path(resolve_path(name)).is_dir() or re.fullmatch(HUB_ID, name) is not None)


def _has_same_content(model: ModelConfig, part: str, identity: Identity) -> bool:
    """Whether a part of the model has the content that the identity records."""
    name, fingerprint = getattr(model, part), identity["weights"].get(part)
    if fingerprint is not None and part_fingerprint(name) != fingerprint:
        return False
    recorded = identity.get("contents", {})  # none in the records of the first version
    return part not in recorded or content_digests(model).get(part) == recorded[part]
