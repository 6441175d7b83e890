"""How far a run is and why: the one decision behind skipped runs, resumed runs and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vrx.config.errors import UserError
from vrx.runs.checkpoint_files import newest_step
from vrx.runs.locks import is_locked
from vrx.runs.results import is_copy
from vrx.runs.run_dir import RunDir
from vrx.runs.trained_files import require_unchanged

NUM_SUGGESTED = 3  # finished runs in a message
State = Literal["done", "resumable", "to do"]


@dataclass(frozen=True)
class RunStatus:
    """The state of a run, the reason for it in a few words, where the run lies and how long it is expected to take.

    `run_dir` is None where it is not known before the run's data are made; `expected_hours` where no run is like it.
    """

    state: State
    reason: str
    run_dir: Path | None = None
    expected_hours: float | None = None

    @property
    def is_done(self) -> bool:
        return self.state == "done"


@dataclass(frozen=True)
class Gap:
    """Something that a run still lacks; `is_started` where part of it exists already."""

    reason: str
    is_started: bool = False


Check = Callable[[], Gap | None]  # of one stage of a run: what it lacks, None where it is complete


def run_status(run_dir: Path, checks: Sequence[Check], *, expected_hours: float | None = None) -> RunStatus:
    """The status of a run from the checks of its stages, in their order.

    The first gap is the reason. A run is resumable if a stage is complete or the first incomplete one has begun.
    """
    for number, check in enumerate(checks):
        gap = check()
        if gap is not None:
            started = number > 0 or gap.is_started
            return RunStatus("resumable" if started else "to do", gap.reason, run_dir, expected_hours)
    return RunStatus("done", "done", run_dir)


def combined_status(statuses: Iterable[RunStatus], *, run_dir: Path | None = None) -> RunStatus:
    """The status of several runs that one command makes: that of the first which is not done."""
    statuses = list(statuses)
    unfinished = next((status for status in statuses if not status.is_done), None)
    if unfinished is None:
        return RunStatus("done", "done", run_dir)
    started = any(status.state != "to do" for status in statuses)
    return RunStatus("resumable" if started else "to do", unfinished.reason, run_dir)


def training_gap(run_dir: Path, result: str = "adapter") -> Gap | None:
    """What the training of a run lacks; result: the folder that it leaves in the run directory.

    `UserError` where that folder is not what the training left.
    """
    directory = RunDir(run_dir)
    if is_copy(run_dir):
        return None
    if directory.train_summary.is_file():
        require_unchanged(run_dir, result)
        return None if (run_dir / result).is_dir() else Gap(f"no {result}")
    step = newest_step(run_dir)
    if step is not None:
        return Gap(f"checkpoint at step {step}", is_started=True)
    return Gap(f"no {result}" if directory.config.is_file() else "not started")


def require_record(run_dir: Path, *, key: str = "job.run") -> None:
    """Refuse a directory without the record of a finished run: `UserError` that says what it lacks, if it is a run's.

    key: the option that named the directory.
    """
    if RunDir(run_dir).record.is_file():
        return
    if not RunDir(run_dir).config.is_file():
        fault, below = "holds no record.json" if run_dir.is_dir() else "no such folder", _runs_below(run_dir)
        raise UserError(f"{key}={run_dir}: {fault}; valid is the directory of a finished run{below}")
    if is_locked(run_dir):
        raise UserError(f"{key}={run_dir}: not finished, another vrx works on this run; wait for it or stop it")
    step = newest_step(run_dir)
    state = "it is trained, but not scored" if RunDir(run_dir).train_summary.is_file() else "it has no result yet"
    state = state if step is None else f"it has a checkpoint at step {step}"
    raise UserError(f"{key}={run_dir}: not finished, {state}; run the command again that began it: vrx …")


def _runs_below(folder: Path) -> str:
    """Some finished runs below a folder or, where there is none, beside it, for a message."""
    parent = folder if folder.is_dir() else folder.parent
    runs = sorted(path.parent for depth in ("*", "*/*") for path in parent.glob(f"{depth}/record.json"))
    names = ", ".join(map(str, runs[:NUM_SUGGESTED]))
    return f", such as {names}" if names else ""
