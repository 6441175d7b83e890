"""Records of reverted and pruned LVLMs, for tests of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vrx.report.collect import Run
from vrx.runs.record import parse_record

DEPTH = 32


def altered_run(
    folder: Path,
    layers: tuple[int, ...],
    scores: dict[str, dict[str, Any]],
    *,
    model: str,
    seed: int = 0,
    reverted: tuple[int, ...] | None = None,
    pruned: tuple[int, ...] | None = None,
    chosen_by: tuple[str, ...] = (),
) -> Run:
    """A run that tuned these layers, and of which some were reverted or pruned afterwards."""
    identity: dict[str, Any] = {
        "model": {"name": model, "num_layers": DEPTH},
        "weights": {},
        "layers": list(layers),
        "data": {"fraction": 1.0},
        "lora": {},
        "train": {},
        "engine": {},
        "seed": seed,
    }
    altered = {"reverted": reverted, "pruned": pruned}
    identity |= {key: list(value) for key, value in altered.items() if value is not None}
    record: dict[str, Any] = {
        "run_id": "0",
        "identity": identity,
        "layers": list(layers),
        "train": None,
        "scores": {name: {"num_samples": 10, "stderr": 0.0, "metrics": {}, **entry} for name, entry in scores.items()},
    }
    if pruned is not None:
        record["pruned"] = {"by": list(chosen_by)}
    return Run(folder, parse_record(record))
