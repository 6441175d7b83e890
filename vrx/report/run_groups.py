"""Runs that may be compared: groups that differ only in what a table or figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import PurePath

from vrx.report.collect import Run
from vrx.runs.files import digest

SHOWN_LENGTH = 24  # characters of a setting's value in a title
DIGESTS = ("weights.", "contents.")  # settings that are digests of a part of the model


def setting(run: Run) -> dict[str, object]:
    """What must be equal for two runs to be in one table: the identity without layers, data fraction and seed."""
    rest = {key: part for key, part in run.record.identity.items() if key not in ("layers", "seed")}
    return {**rest, "data": {key: part for key, part in rest["data"].items() if key != "fraction"}}


def group_by_setting(runs: Sequence[Run], model: str) -> list[list[Run]]:
    """The tuned runs of a model, grouped by their setting; the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.model == model and run.is_tuned:
            groups.setdefault(digest(setting(run)), []).append(run)
    return [group for _, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))]


def group_by_identity(runs: Sequence[Run], *, except_for: Sequence[str]) -> list[list[Run]]:
    """Runs of one model that differ only in the seed and these parts of the identity; the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        rest = {key: part for key, part in run.record.identity.items() if key not in (*except_for, "seed")}
        groups.setdefault(digest([run.model, rest]), []).append(run)
    return sorted(groups.values(), key=lambda group: (group[0].model, -len(group)))


def describe_differences(groups: Sequence[Sequence[Run]]) -> list[str]:
    """For each group the settings that not all groups share: `train.lr=0.002`; empty for a single group.

    Settings that a group does not have are left out. Parts of the model are named by their folders, and by digests of
    their content only where nothing else tells groups apart.
    """
    settings = [_flatten(setting(group[0])) for group in groups]
    without_digests = [{key: value for key, value in flat.items() if not key.startswith(DIGESTS)} for flat in settings]
    named = [_part_names(group[0]) | flat for group, flat in zip(groups, without_digests, strict=True)]
    texts = _differing(named)
    return texts if len(set(texts)) == len(groups) else _differing(settings)


def _differing(settings: Sequence[dict[str, object]]) -> list[str]:
    """For each of several settings the entries that not all of them share."""
    keys = [key for key in dict.fromkeys(chain(*settings)) if len({repr(flat.get(key)) for flat in settings}) > 1]
    return [
        ", ".join(f"{key}={str(flat[key])[:SHOWN_LENGTH]}" for key in keys if flat.get(key) is not None)
        for flat in settings
    ]


def _part_names(run: Run) -> dict[str, object]:
    """The folder of each part of the model, by its key."""
    return {f"model.{part}": PurePath(path).name for part, path in run.record.model.parts.items()}


def _flatten(value: dict[str, object], prefix: str = "") -> dict[str, object]:
    """`{"train": {"lr": 1}}` as `{"train.lr": 1}`."""
    flat: dict[str, object] = {}
    for key, part in value.items():
        flat |= _flatten(part, f"{prefix}{key}.") if isinstance(part, dict) else {prefix + key: part}
    return flat
