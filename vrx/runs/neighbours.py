"""The runs beside a run: those of the same model and job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.runs.files import digest
from vrx.runs.record import Record, read_record


def neighbour_records(run_dir: Path) -> Iterator[Record]:
    """The records of the runs beside this one, and its own; invalid ones are skipped."""
    for path in sorted(run_dir.parent.glob("*/record.json")):
        with suppress(ValueError, OSError):
            yield read_record(path)


def all_layers_record(run_dir: Path, record: Record) -> Record | None:
    """The record of a neighbour that differs only in tuning every layer; None where there is none."""

    def without_layers(identity: dict[str, Any]) -> str:
        return digest({key: part for key, part in identity.items() if key != "layers"})

    depth, wanted = record.model.num_layers, without_layers(record.identity)
    tuned = (other for other in neighbour_records(run_dir) if len(other.layers) == depth)
    return next((other for other in tuned if without_layers(other.identity) == wanted), None)
