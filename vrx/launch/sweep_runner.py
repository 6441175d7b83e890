"""Several runs by one command: each in a process of its own, what is done skipped, a failure told at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from vrx.config.errors import disk_error_message
from vrx.launch.logging import log
from vrx.launch.ranks import die_with_parent
from vrx.runs.locks import is_locked

State = Literal["done", "resumable", "to do"]


@dataclass(frozen=True)
class Progress:
    """How far a run is, where it lies (None: not known before its data are made), what runs like it took."""

    state: State
    run_dir: Path | None = None
    expected_seconds: float | None = None


@dataclass
class Job:
    """One run of a sweep; `look` tells its progress, of which `progress` is the last known."""

    overrides: list[str]
    look: Callable[[], Progress]
    progress: Progress
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log_file: Path | None = None
    gpus: tuple[str, ...] = ()
    began: float = 0.0

    @property
    def name(self) -> str:
        told = [item for item in self.overrides if not item.startswith(("sweep=", "sweep."))]
        return " ".join(told) or "the default run"

    def refresh(self) -> None:
        self.progress = self.look()

    @property
    def state(self) -> State:
        return self.progress.state

    @property
    def run_dir(self) -> Path | None:
        return self.progress.run_dir

    @property
    def expected_seconds(self) -> float | None:
        return self.progress.expected_seconds


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without those that would train the same run again."""
    found: dict[Path | int, Job] = {}
    for job in jobs:
        found.setdefault(job.run_dir or id(job), job)
    return list(found.values())


def listing(jobs: Sequence[Job]) -> str:
    """What a dry run prints: every run with its state and, where runs like it are known, its expected hours."""
    lines = []
    for job in jobs:
        hours = f"{job.expected_seconds / 3600:.2f} h" if job.expected_seconds and job.state != "done" else ""
        lines.append(f"{job.state:<10} {hours:>9}  {job.name}")
    counts = ", ".join(f"{sum(job.state == state for job in jobs)} {state}" for state in ("done", "resumable", "to do"))
    open_jobs = [job for job in jobs if job.state in ("resumable", "to do")]
    known = [job.expected_seconds for job in open_jobs if job.expected_seconds]
    hours = f"; about {sum(known) / 3600:.2f} h" if known and len(known) == len(open_jobs) else ""
    return "\n".join([*lines, f"{len(jobs)} distinct runs: {counts}{hours}"])


def run_all(
    jobs: Sequence[Job], *, logs: Path, gpus: Sequence[str], gpus_per_run: int | None, fail_fast: bool = False
) -> list[Job]:
    """Bring every job to its end, as many at a time as the GPUs allow (one where there is none); gives the failed.

    A job whose run another process works on waits for that, and is then looked at again.
    """
    size = min(gpus_per_run or len(gpus), len(gpus)) if gpus else 0
    starts = range(0, len(gpus) - size + 1, size) if size else ()
    free: list[tuple[str, ...]] = [tuple(gpus[start : start + size]) for start in starts] or [()]
    waiting = [job for job in jobs if job.state != "done"]
    running: list[Job] = []
    failed: list[Job] = []
    elsewhere: list[Job] = []  # of the waiting: another vrx works on them
    slots, durations = len(free), list[float]()
    logs.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(jobs), initial=len(jobs) - len(waiting), bar_format="{desc}", disable=None) as bar:
        try:
            while waiting or running:
                for job in [job for job in running if job.process and job.process.poll() is not None]:
                    running.remove(job)
                    free.append(job.gpus)
                    assert job.process and job.log_file
                    if job.process.returncode == 0:
                        durations.append(time.monotonic() - job.began)
                        log(f"done: {job.name}")
                    elif job.run_dir is not None and is_locked(job.run_dir):
                        waiting.append(job)  # another vrx was faster
                    else:
                        _fail(job, reason(job), failed)
                        if fail_fast:
                            return failed
                held = [job for job in waiting if job.run_dir is not None and is_locked(job.run_dir)]
                for job in held:
                    if job not in elsewhere:
                        log(f"held by another vrx: {job.name}; this one waits for it")
                elsewhere = held
                for job in [job for job in waiting if job not in held][: len(free)]:
                    waiting.remove(job)
                    try:
                        job.refresh()  # another driver may have finished it
                        if job.state == "done":
                            log(f"done: {job.name}, already")
                            continue
                        _start(job, free[0], logs)
                    except (ValueError, OSError) as error:
                        _fail(job, disk_error_message(error) or str(error), failed)
                        if fail_fast:
                            return failed
                    else:
                        free.pop(0)
                        running.append(job)
                done = len(jobs) - len(waiting) - len(running) - len(failed)
                told = f"{done}/{len(jobs)} done, {len(running)} running, {len(failed)} failed"
                told += f", {len(held)} held by another vrx" if held else ""
                bar.set_description_str(told + time_left_text([*waiting, *running], durations, slots))
                time.sleep(0.2)
        finally:
            for job in running:
                if job.process and job.process.poll() is None:
                    job.process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        job.process.wait(timeout=30)
    return failed


def _fail(job: Job, reason: str, failed: list[Job]) -> None:
    failed.append(job)
    log(f"failed: {job.name}: {reason}")


def _start(job: Job, gpus: tuple[str, ...], logs: Path) -> None:
    environment = dict(os.environ)
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    job.gpus, job.began = gpus, time.monotonic()
    name = job.run_dir.name if job.run_dir else "-".join(job.name.split()).replace("/", "_")[:100]
    job.log_file = logs / f"{name}.log"
    command = [sys.executable, "-m", "vrx.main", *job.overrides, "hydra.mode=RUN"]
    with job.log_file.open("wb") as output:
        job.process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )


def reason(job: Job) -> str:
    """The line in which a run said why it ended, or where to read on."""
    assert job.process and job.log_file
    text = job.log_file.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    told = re.findall(r"vrx: (.+)", text)  # behind the progress bar of a worker that was killed, too
    status = job.process.returncode
    return told[-1] if status == 2 and told else f"ended with status {status}; see {job.log_file}"


def time_left_text(jobs: Sequence[Job], durations: Sequence[float], slots: int) -> str:
    """The time left, from the seconds of the runs that this command finished, before that from what runs like these
    took; empty where neither is known."""
    known = list(durations) or [job.expected_seconds for job in jobs if job.expected_seconds]
    if not jobs or not known:
        return ""
    mean = sum(known) / len(known)
    expected = sum(mean if durations else job.expected_seconds or mean for job in jobs)
    elapsed = sum(time.monotonic() - job.began for job in jobs if job.process)
    seconds = max(0.0, expected - elapsed) / slots
    return f", {int(seconds // 3600)} h {int(seconds % 3600 // 60)} min left"
