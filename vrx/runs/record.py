"""A run's record and the records beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.files import read_json


def read_record(path: Path) -> dict[str, Any]:
    """A run's record; what another version added to it stays. A `UserError` where the file is none."""
    record = read_json(path)
    kinds = {"run_id": str, "identity": dict, "layers": list, "scores": dict}
    entries = {"value", "stderr", "num_samples"}
    try:
        wrong = [key for key, kind in kinds.items() if not isinstance(record[key], kind)]
        wrong += [] if record["train"] is None or isinstance(record["train"], dict) else ["train"]
        wrong += [f"scores.{name}" for name, entry in record["scores"].items() if not entries <= entry.keys()]
        wrong += [] if isinstance(record["identity"]["model"]["num_layers"], int) else ["identity.model.num_layers"]
    except (KeyError, TypeError, AttributeError) as error:
        wrong = [str(error)] if isinstance(error, KeyError) else ["its form"]
    if wrong:
        raise UserError(f"{path}: not the record of a run, by {wrong[0]}")
    return record


def records_beside(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The records of the runs that lie beside this one, and its own; what is no record is passed over."""
    for path in sorted(run_dir.parent.glob("*/record.json")):
        with suppress(ValueError, OSError):
            yield read_record(path)


def typical_seconds(run_dir: Path, run_identity: dict[str, Any]) -> float | None:
    """What runs beside this one took to train, those of as many steps on as much data; None where there is none."""

    def size(value: dict[str, Any]) -> list[Any]:
        return [value.get(key) for key in ("model", "train", "data")]

    alike = [record for record in records_beside(run_dir) if size(record["identity"]) == size(run_identity)]
    found = [record["train"]["seconds"] for record in alike if record["train"] and "seconds" in record["train"]]
    return sum(found) / len(found) if found else None


def all_layers_record(run_dir: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record that differs from this one only in tuning every layer, where there is one beside it."""

    def rest(value: dict[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in value["identity"].items() if key != "layers"}

    depth = record["identity"]["model"]["num_layers"]
    alike = (other for other in records_beside(run_dir) if len(other["layers"]) == depth)
    return next((other for other in alike if rest(other) == rest(record)), None)
