"""How long a training will take, from the records of runs like it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from vrx.runs.identity import Identity
from vrx.runs.neighbours import neighbour_records
from vrx.runs.record import Record

SAME = ("model", "weights", "data", "train", "engine")  # parts of an identity that decide on the cost, beside layers


def expected_device_hours(run_dir: Path, identity: Identity, results: Sequence[Path] = ()) -> float | None:
    """Device-hours of a training, from neighbours of the same model, data, training and engine; None without any.

    Runs with as many layers count alone. Without one, the hours are interpolated over the number of layers, or taken
    from the one number that is known: with the projector tuned, the backward pass goes through all layers anyway.
    """
    by_layers: dict[int, list[float]] = {}
    for record in neighbour_records(run_dir, results):
        hours = _device_hours(record)
        if hours is not None and all(record.identity.get(key) == identity.get(key) for key in SAME):
            by_layers.setdefault(len(record.layers), []).append(hours)
    usual = {count: statistics.median(hours) for count, hours in by_layers.items()}
    num_layers = len(identity.get("layers", ()))
    if num_layers in usual or len(usual) < 2:
        return usual.get(num_layers, next(iter(usual.values()), None))
    slope, intercept = statistics.linear_regression(list(usual), list(usual.values()))
    return max(min(usual.values()) / 2, intercept + slope * num_layers)


def _device_hours(record: Record) -> float | None:
    """Hours of training times the devices that trained; GPU-hours where there were GPUs."""
    train = record.train
    if train is None or train.seconds is None:
        return None
    if train.gpu_hours:
        return train.gpu_hours
    provenance = record.provenance.train
    return train.seconds * ((provenance and provenance.device_count) or 1) / 3600
