"""The log of a training run, `train.jsonl` with one row a step, and its summary."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TextIO, TypedDict, cast

from vrx.launch.logging import is_main
from vrx.runs.files import read_json_lines, write_atomic
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import TrainSummary

OLD_NAMES = {"operations": "flops"}  # of earlier versions


@dataclass(frozen=True)
class StepRow:
    """One optimizer step. loss: nats per token; grad_norm: 2-norm of all gradients before clipping."""

    step: int
    loss: float
    lr: float  # of the adapters
    grad_norm: float | None
    tokens: int
    samples: int
    bad_images: list[str]
    cut_images: list[str]
    masked_samples: list[str]
    seconds: float
    seconds_waiting_for_data: float
    flops: float


class LoggedStep(TypedDict):
    """A `StepRow` as it is read; versions before this one left some columns out."""

    step: int
    loss: float
    lr: float
    grad_norm: NotRequired[float | None]
    tokens: int
    samples: NotRequired[int]
    bad_images: NotRequired[list[str]]
    cut_images: NotRequired[list[str]]
    masked_samples: NotRequired[list[str]]
    seconds: float
    seconds_waiting_for_data: float
    flops: float


class TrainLog:
    """Appends rows to the log; only rank 0 writes."""

    def __init__(self, run_dir: Path) -> None:
        self.path = RunDir(run_dir).train_log
        self.file: TextIO | None = None

    def __enter__(self) -> TrainLog:
        self.file = self.path.open("a", encoding="utf-8") if is_main() else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.sync()
            self.file.close()

    def write(self, row: StepRow) -> None:
        if self.file is not None:
            self.file.write(json.dumps(dataclasses.asdict(row)) + "\n")
            self.file.flush()

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        if self.file is not None:
            os.fsync(self.file.fileno())


def read_rows(run_dir: Path) -> list[LoggedStep]:
    """The rows of a log under today's names; those of earlier versions lack `grad_norm` and `samples`."""
    rows = read_json_lines(RunDir(run_dir).train_log)
    return cast("list[LoggedStep]", [{OLD_NAMES.get(key, key): value for key, value in row.items()} for row in rows])


def rewind(run_dir: Path, step: int) -> None:
    """Drop the rows from `step` on, and a last row that was cut off: the resumed run writes them again."""
    rows = [row for row in read_rows(run_dir) if row["step"] < step]
    write_atomic(RunDir(run_dir).train_log, "".join(json.dumps(row) + "\n" for row in rows))


def summarize(
    run_dir: Path,
    *,
    trainable_parameters: int,
    num_gpus: int,
    peak_memory_gb: float,
    peak_flops_per_second: float,
) -> TrainSummary:
    """The cost and outcome of a training, from its log.

    Times are summed over the steps, so a resumed run counts none twice. peak_flops_per_second: of all devices
    together, measured; `mfu` is the share of it that the model's FLOPs reach.
    """
    rows = read_rows(run_dir)
    seconds = sum(row["seconds"] for row in rows)
    flops = sum(row["flops"] for row in rows)
    return TrainSummary(
        steps=len(rows),
        seconds=seconds,
        gpu_hours=seconds * num_gpus / 3600,
        tokens_per_second=sum(row["tokens"] for row in rows) / seconds,
        samples_per_second=_samples_per_second(rows),
        flops=flops,
        flops_per_second=flops / seconds,
        peak_flops_per_second=peak_flops_per_second,
        mfu=flops / seconds / peak_flops_per_second,
        seconds_waiting_for_data=sum(row["seconds_waiting_for_data"] for row in rows),
        peak_memory_gb=peak_memory_gb,
        trainable_parameters=trainable_parameters,
        final_loss=rows[-1]["loss"],
        bad_images=_all(rows, "bad_images"),
        cut_images=_all(rows, "cut_images"),
        masked_samples=_all(rows, "masked_samples"),
    )


def _samples_per_second(rows: list[LoggedStep]) -> float | None:
    """Over the rows that count their samples; None without one."""
    counted = [(row["samples"], row["seconds"]) for row in rows if "samples" in row]
    if not counted:
        return None
    return sum(samples for samples, _ in counted) / sum(seconds for _, seconds in counted)


def _all(rows: list[LoggedStep], key: str) -> list[str]:
    return [message for row in rows for message in row.get(key, ())]
