"""Runs the command in forked processes, which share the imports, and judges how it took an input.

A worker is a fork of its driver too, not a new interpreter: starting one anew takes longer than all that is asked here.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

LIMIT_SECONDS = 60
GOOD = f"{os.environ.get('VRX_BAD_INPUTS', 'bad_inputs')}/good/"  # set by `bad_inputs.py`
MEMORY_BYTES = 12 << 30  # of one command; a bomb must not take the machine
TRACES = ("Traceback (most recent call last)", "the traceback is in")  # of a driver; of a worker
REFUSED, TOLD, SAME, OTHER = "refused", "told", "harmless", "other value"

Change = Callable[[Path], Any]


@dataclass(frozen=True)
class Scene:
    """A command on good files: what bad inputs are made from.

    command: its arguments; `@` stands for the folder of the input, `$` for that of the good files. prepare: makes the
    input's files before they are changed. result: what must be the same where a change is harmless; by default what is
    printed.
    """

    name: str
    command: tuple[str, ...]
    prepare: Change
    result: Callable[[Path, str], Any] = lambda folder, printed: printed


@dataclass(frozen=True)
class BadInput:
    """A change of the files of a scene, or further arguments, and how it may be taken.

    expected: some of REFUSED, TOLD, SAME, OTHER. names: texts of which one must be in a refusal, and in what is told.
    """

    kind: str
    name: str
    scene: Scene
    expected: frozenset[str]
    names: tuple[str, ...]
    change: Change = lambda folder: None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a command ended; status: None where it was stopped at the limit."""

    status: int | None
    printed: str
    seconds: float
    result: Any = None


@dataclass
class Runner:
    """Runs inputs in folders of their own below `folder`; the result of a scene's good files is made once."""

    folder: Path
    good: dict[str, Outcome] = field(default_factory=dict)

    def judge(self, number: int, bad: BadInput) -> tuple[str, str, float]:
        """How an input was taken, one of REFUSED, TOLD, SAME, OTHER or "wrong"; why it is wrong; seconds of a core."""
        if bad.scene.name not in self.good:
            folder = self.folder / f"good-{bad.scene.name}"
            self.good[bad.scene.name] = self._run(folder, BadInput("", "", bad.scene, frozenset(), ()))
            shutil.rmtree(folder)
        outcome = self._run(self.folder / f"{number:04}", bad)
        return *verdict(bad, outcome, self.good[bad.scene.name]), outcome.seconds

    def _run(self, folder: Path, bad: BadInput) -> Outcome:
        folder.mkdir(parents=True)
        bad.scene.prepare(folder)
        bad.change(folder)
        arguments = [
            argument.replace("@", str(folder)).replace("$/", GOOD) for argument in (*bad.scene.command, *bad.arguments)
        ]
        status, seconds = in_fork(arguments, folder)
        text = "".join((folder / name).read_text(errors="replace") for name in ("stdout.txt", "stderr.txt"))
        printed = plain(text, folder)
        return Outcome(status, printed, seconds, bad.scene.result(folder, printed) if status == 0 else None)


def verdict(bad: BadInput, outcome: Outcome, good: Outcome) -> tuple[str, str]:
    """How an input was taken, and why that is wrong where it is."""
    if good.status != 0:
        return "wrong", f"the good files of {bad.scene.name} are refused: {good.printed[-300:]}"
    if outcome.status is None:
        return "wrong", f"still at work after {LIMIT_SECONDS} s"
    if any(trace in outcome.printed for trace in TRACES) or outcome.status not in (0, 2):
        return "wrong", f"traceback, or status {outcome.status}"
    new_lines = [line for line in outcome.printed.splitlines() if line not in good.printed.splitlines()]
    told = [line for line in new_lines if not line.startswith("ok ") and any(name in line for name in bad.names)]
    if outcome.status == 2:
        taken, why = REFUSED, "" if told else f"refused without any of {bad.names}"
    elif told and TOLD in bad.expected:
        taken, why = TOLD, ""
    elif outcome.result == good.result:
        taken, why = SAME, ""
    else:
        taken, why = OTHER, ""
    if taken not in bad.expected:
        why = why or f"{taken}, expected: {' or '.join(sorted(bad.expected))}"
    return ("wrong", why) if why else (taken, "")


def plain(text: str, folder: Path) -> str:
    """What was printed, without what differs from run to run: the folder, digests, times."""
    text = re.sub(r"\b[0-9a-f]{8,64}\b", "#", text.replace(str(folder), "@").replace("\r", "\n"))
    return re.sub(r"\d+ GB free|[\d.e-]+ GB\b|\d\d:\d\d(:\d\d)?|\d+(\.\d+)? ?s\b", "", text)


def in_fork(arguments: list[str], folder: Path) -> tuple[int | None, float]:
    """Run `vrx` with these arguments in a fork, in a folder; exit status (None at the limit), and seconds of a core."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        _become(lambda: _command(arguments), folder / "stdout.txt", folder / "stderr.txt")
    while time.monotonic() - start < LIMIT_SECONDS:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # a worker that outlives its driver
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, LIMIT_SECONDS


def _command(arguments: list[str]) -> None:
    from vrx import main
    from vrx.launch import workers

    workers._start_workers = _start_worker
    sys.argv = ["vrx", *arguments]
    main.main()


def _become(work: Callable[[], Any], stdout: Path | None, stderr: Path | None) -> NoReturn:
    """Do some work as a process of its own would, and end."""
    for number, path in ((1, stdout), (2, stderr)):
        if path is not None:
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    status: Any = 0
    try:
        work()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


class _Fork:
    """The part of `subprocess.Popen` that a driver uses, of a forked worker."""

    def __init__(self, process: int) -> None:
        self.pid, self.returncode = process, None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _start_worker(stage: str, run_dir: Path, *_: Any) -> _Fork:
    """A worker of one process, as `vrx.launch.workers` starts it."""
    from vrx.launch import worker
    from vrx.launch.ranks import PARENT
    from vrx.launch.workers import SINGLE_WORKER

    driver = os.getpid()
    child = os.fork()
    if child == 0:
        os.environ.update({**SINGLE_WORKER, PARENT: str(driver), "CUDA_VISIBLE_DEVICES": ""})
        sys.argv = ["worker", stage, str(run_dir)]
        _become(worker.main, None, None)
    return _Fork(child)
