"""How long trainings took, also where the process was suspended for a while: a pause is no cost of the tuned layers."""

from __future__ import annotations

import json
import lzma
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from vrx.runs.results import compressed
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import TrainSummary

FAR_ABOVE = 2.0  # times the time of the median step times the number of steps
NOTE = "the time of a run that was paused is its median step times its number of steps"


def without_pauses(train: TrainSummary, folder: Path) -> TrainSummary:
    """The summary of a training, with its time, GPU-hours and speeds as without pauses.

    A run whose total is not far above (`FAR_ABOVE`) its median step times its steps, or whose log does not have every
    step, keeps the numbers of its record.
    """
    if not train.seconds:
        return train
    steps = [row["seconds"] for row in read_train_log(folder) if is_number(row.get("seconds"))]
    usual = statistics.median(steps) * len(steps) if steps else 0.0
    if len(steps) != train.steps or usual <= 0 or train.seconds <= FAR_ABOVE * usual:
        return train
    share = usual / train.seconds
    speeds = ("tokens_per_second", "samples_per_second", "flops_per_second", "mfu")
    faster = {name: value / share for name in speeds if (value := getattr(train, name)) is not None}
    gpu_hours = None if train.gpu_hours is None else train.gpu_hours * share
    return replace(train, seconds=usual, gpu_hours=gpu_hours, **faster)


def read_train_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's training log, or of its compressed copy; those before one that cannot be read."""
    path = RunDir(folder).train_log
    try:
        text = path.read_bytes() if path.is_file() else lzma.decompress(compressed(path).read_bytes())
    except (OSError, lzma.LZMAError, EOFError):
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if isinstance(row, dict) and is_number(row.get("step")):
            rows.append(row)
    return rows


def is_number(value: object) -> bool:
    """Whether a value of a log is a finite number that can be drawn."""
    return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)
