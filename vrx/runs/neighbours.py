"""The runs beside a run, here and in folders of results: those of the same model and job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vrx.runs.files import digest
from vrx.runs.record import Record, read_record


def neighbour_records(run_dir: Path, results: Sequence[Path] = ()) -> Iterator[Record]:
    """The records of the runs beside this one, its own, and those of the same model and job in folders of results.

    Invalid ones are skipped.
    """
    beside = run_dir.parent
    for path in _records(beside, *(root / beside.parent.name / beside.name for root in results)):
        with suppress(ValueError, OSError):
            yield read_record(path)


def _records(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob("*/record.json"))]


def all_layers_record(run_dir: Path, record: Record, results: Sequence[Path] = ()) -> Record | None:
    """The record of a neighbour that differs only in tuning every layer; None where there is none."""

    def without_layers(identity: dict[str, Any]) -> str:
        return digest({key: part for key, part in identity.items() if key != "layers"})

    depth, wanted = record.model.num_layers, without_layers(record.identity)
    tuned = (other for other in neighbour_records(run_dir, results) if len(other.layers) == depth)
    return next((other for other in tuned if without_layers(other.identity) == wanted), None)
