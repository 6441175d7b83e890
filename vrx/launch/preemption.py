"""Requests to stop that come before a machine is taken away: SIGTERM, and SLURM's warnings SIGUSR1 and SIGUSR2.

A training then writes a checkpoint after its present step, or its result after the last one; everything else stops at
once, as its results so far are on the disk. The command ends with status 75 (EX_TEMPFAIL of sysexits.h), which says
that the same command resumes it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

RESUME = 75  # exit status
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # submitit asks SLURM for SIGUSR2
STOP_FILE = ".stop"  # in a run's directory: the driver asks the training to stop


class Preempted(BaseException):
    """The command was asked to stop and can be resumed. No `Exception`, so that nothing takes it for a failure."""


class _State:
    signal: signal.Signals | None = None  # the first that came
    num_deferred = 0  # blocks that look for a request by themselves


def install(when_asked: Callable[[], None] | None = None) -> None:
    """Take the signals as requests to stop from now on; does nothing outside the main thread.

    when_asked: called at the first signal outside `deferred`; by default it raises `Preempted`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    call = when_asked or stop

    def handle(number: int, _: FrameType | None) -> None:
        is_first = _State.signal is None
        _State.signal = _State.signal or signal.Signals(number)
        if is_first and not _State.num_deferred:
            call()

    for number in SIGNALS:
        signal.signal(number, handle)


@contextmanager
def deferred() -> Iterator[None]:
    """In this block a request only counts for `requested`."""
    _State.num_deferred += 1
    try:
        yield
    finally:
        _State.num_deferred -= 1


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """In this block Ctrl-C waits for the block's end; a process that is started in the block never gets one."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _State.signal is not None


def stop() -> None:
    """Raise `Preempted`."""
    name = _State.signal.name if _State.signal else "a worker's signal"
    raise Preempted(f"stopped by {name}; run the same command to resume")


def stop_file(run_dir: Path) -> Path:
    """The file that asks the training in a run directory to stop."""
    return run_dir / STOP_FILE


def requeue() -> bool:
    """In a job that submitit started: give the job back to SLURM's queue, and return whether SLURM took it."""
    job = os.environ.get("SLURM_JOB_ID")
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or job is None:
        return False
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:
        return False
