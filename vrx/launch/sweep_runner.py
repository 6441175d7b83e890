"""Runs of a sweep, several at a time, each in a process of its own on its share of the GPUs."""

from __future__ import annotations

import enum
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from vrx.config.errors import UserError, disk_error_message
from vrx.launch.logging import log
from vrx.launch.preemption import RESUME
from vrx.launch.ranks import PARENT
from vrx.runs.locks import is_locked
from vrx.runs.status import RunStatus

POLL_SECONDS = 0.2
TERMINATE_SECONDS = 600  # after SIGTERM, for a run to write a checkpoint and end


class JobState(enum.Enum):
    WAITING = "waiting"
    HELD = "held by another vrx"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(eq=False)
class Job:
    """One run of a sweep: the command that starts it, its progress and its process.

    look: returns the run's present status; `status` is the latest that it returned.
    asks: what it asks of its run directory; jobs of one directory that ask different things run one after another.
    """

    name: str
    command: list[str]
    look: Callable[[], RunStatus]
    status: RunStatus
    asks: str = ""
    state: JobState = JobState.WAITING
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log_file: Path | None = None
    gpus: tuple[str, ...] = ()
    started_at: float = 0.0  # monotonic seconds

    @property
    def is_open(self) -> bool:
        return self.state not in (JobState.DONE, JobState.FAILED)

    @property
    def is_locked(self) -> bool:
        """Whether any process works on this run now."""
        return self.status.run_dir is not None and is_locked(self.status.run_dir)


def distinct(jobs: Sequence[Job]) -> dict[Job, Job]:
    """Job -> the first job that asks the same of the same run directory, which stands for all of them."""
    first: dict[tuple[Path | int, str], Job] = {}
    return {job: first.setdefault((job.status.run_dir or id(job), job.asks), job) for job in jobs}


def gpu_shares(gpus: Sequence[str], gpus_per_run: int | None) -> list[tuple[str, ...]]:
    """The GPUs of each run that can run at the same time; by default all GPUs go to one run. Empty without GPUs."""
    size = min(gpus_per_run or len(gpus), len(gpus))
    if not size:
        return [()]
    return [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


class Scheduler:
    """Runs all jobs, as many at a time as the GPUs allow.

    A failure is reported at once and stops the others only with `fail_fast`. If another process holds the lock of a
    run, the job waits for that process and then looks at the run's status again.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        logs: Path,
        gpus: Sequence[str],
        gpus_per_run: int | None,
        fail_fast: bool = False,
    ) -> None:
        self.jobs = list(jobs)
        self.logs = logs
        self.free = gpu_shares(gpus, gpus_per_run)
        self.num_slots = len(self.free)
        self.fail_fast = fail_fast
        self.durations: list[float] = []  # seconds of the runs that succeeded

    def run(self) -> list[Job]:
        """Run all jobs; returns those that failed."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for job in self.jobs:
            if job.status.state == "done":
                self._finish(job, "finished before")
        with tqdm(total=len(self.jobs), bar_format="{desc}", disable=None) as bar:
            try:
                while self._goes_on():
                    self._collect_ended()
                    self._mark_held()
                    self._start_waiting()
                    bar.set_description_str(self.status_line())
                    if self._goes_on():
                        time.sleep(POLL_SECONDS)
            finally:
                self._terminate_running()
        return self.in_state(JobState.FAILED)

    def in_state(self, *states: JobState) -> list[Job]:
        return [job for job in self.jobs if job.state in states]

    def status_line(self) -> str:
        """The progress line: how many runs are done, running, failed and held, and the time left."""
        counts = {state: len(self.in_state(state)) for state in JobState}
        line = (
            f"{counts[JobState.DONE]}/{len(self.jobs)} done, {counts[JobState.RUNNING]} running, "
            f"{counts[JobState.FAILED]} failed"
        )
        if held := counts[JobState.HELD]:
            line += f", {held} held by another vrx"
        return line + time_left_text([job for job in self.jobs if job.is_open], self.durations, self.num_slots)

    def _goes_on(self) -> bool:
        failed = self.fail_fast and self.in_state(JobState.FAILED)
        return not failed and any(job.is_open for job in self.jobs)

    def _collect_ended(self) -> None:
        for job in self.in_state(JobState.RUNNING):
            assert job.process
            if job.process.poll() is None:
                continue
            self.free.append(job.gpus)
            if job.process.returncode == 0:
                self.durations.append(time.monotonic() - job.started_at)
                self._finish(job)
            elif job.is_locked:
                job.state = JobState.WAITING  # another vrx has taken the lock first
            else:
                self._fail(job, failure_reason(job))

    def _mark_held(self) -> None:
        for job in self.in_state(JobState.WAITING, JobState.HELD):
            if not job.is_locked or self._is_busy(job):
                job.state = JobState.WAITING
            elif job.state is JobState.WAITING:
                job.state = JobState.HELD
                log(f"held by another vrx: {job.name}; this sweep waits for it")

    def _start_waiting(self) -> None:
        for job in self.in_state(JobState.WAITING):
            if not self.free or not self._goes_on():
                return
            if self._is_busy(job):
                continue
            try:
                job.status = job.look()  # another vrx or job may have finished it
                if job.status.state == "done":
                    self._finish(job, "finished before")
                elif not self._is_busy(job):  # its directory may be known only now
                    _start(job, self.free[0], self._log_file(job))
                    self.free.pop(0)
            except (UserError, OSError) as error:
                self._fail(job, disk_error_message(error) or str(error))

    def _is_busy(self, job: Job) -> bool:
        """Whether another job of this sweep works on the run directory of this one."""
        busy = [other.status.run_dir for other in self.in_state(JobState.RUNNING) if other is not job]
        return job.status.run_dir is not None and job.status.run_dir in busy

    def _log_file(self, job: Job) -> Path:
        """A file named for the run directory; for its name where the directory is unknown or another job's too."""
        name, digest = job.status.run_dir, hashlib.sha256(job.name.encode()).hexdigest()[:12]
        path = self.logs / f"{name.name if name else digest}.log"
        is_taken = any(other.log_file == path for other in self.jobs if other is not job)
        return path.with_name(f"{path.stem}-{digest}.log") if is_taken else path

    def _finish(self, job: Job, how: str = "") -> None:
        job.state = JobState.DONE
        log(f"done: {job.name}{f', {how}' if how else ''}")

    def _fail(self, job: Job, reason: str) -> None:
        job.state = JobState.FAILED
        log(f"failed: {job.name}: {reason}")

    def _terminate_running(self) -> None:
        running = [job.process for job in self.in_state(JobState.RUNNING) if job.process]
        for process in running:
            if process.poll() is None:
                process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=TERMINATE_SECONDS)


def _start(job: Job, gpus: tuple[str, ...], log_file: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    environment[PARENT] = str(os.getpid())  # the child ends with this process
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    job.log_file = log_file
    with log_file.open("wb") as output:
        job.process = subprocess.Popen(job.command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    job.gpus, job.started_at, job.state = gpus, time.monotonic(), JobState.RUNNING


def failure_reason(job: Job) -> str:
    """The last line that a failed run printed, or its exit status and log file if it printed none."""
    assert job.process and job.log_file
    text = job.log_file.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    messages = re.findall(r"vrx: (.+)", text)  # also after the progress bar of a worker that was killed
    status = job.process.returncode
    return messages[-1] if status in (2, RESUME) and messages else f"ended with status {status}; see {job.log_file}"


def time_left_text(jobs: Sequence[Job], durations: Sequence[float], num_slots: int) -> str:
    """The estimated time left for the unfinished jobs; empty if there is nothing to estimate it from.

    Estimated from the durations of the runs that this command has finished, else from those of earlier similar runs.
    """
    known = list(durations) or [3600 * job.status.expected_hours for job in jobs if job.status.expected_hours]
    if not jobs or not known:
        return ""
    mean = sum(known) / len(known)
    expected = sum(mean if durations else 3600 * (job.status.expected_hours or 0) or mean for job in jobs)
    elapsed = sum(time.monotonic() - job.started_at for job in jobs if job.state is JobState.RUNNING)
    seconds = max(0.0, expected - elapsed) / num_slots
    return f", {int(seconds // 3600)} h {int(seconds % 3600 // 60)} min left"
