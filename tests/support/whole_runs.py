"""Whole runs by the real command: the options they are made with, what they leave behind, killing them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.processes import started

GOLDEN = Path(__file__).parents[1] / "golden"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SMALL = ["world.num_images=48", "world.num_questions=6", "wandb.mode=disabled"]
STEPS = ("train.max_steps=6", "train.global_batch_size=4", "train.micro_batch_size=2", "runtime.checkpoint_every=2")
ASKED = "benchmark=[tiny_gqa,tiny_mmlu]"
PLAIN = (*STEPS, "engine.name=torch", ASKED)
ZERO = (*STEPS, ASKED)
SMOKE = ("sweep=smoke", *PLAIN)


def command(*overrides: str, small: bool = True) -> list[str]:
    """The real command, by default on little data; overrides come last, so they win, but a job word comes first."""
    job = overrides[:1] if overrides and overrides[0].isalpha() else ()
    return [sys.executable, "-m", "vrx.main", *job, *(SMALL if small else []), *overrides[len(job) :]]


def run_dir(root: Path) -> Path:
    (found,) = (root / "outputs" / "finetune" / "tiny").iterdir()
    return found


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[float]:
    return [row["loss"] for row in rows(folder)]


def adapter(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}


@contextmanager
def running_until(root: Path, overrides: tuple[str, ...], condition) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process group of its own, once `condition(root)` holds or it has ended."""
    with started(command(*overrides), cwd=root, env=ENVIRONMENT, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while not condition(root) and process.poll() is None:
            assert time.monotonic() < deadline, "the run never got so far"
            time.sleep(0.02)
        yield process


def send(process: subprocess.Popen[str], number: signal.Signals, *, whole_group: bool) -> None:
    """Send a signal to all processes of a command, as SLURM does, or to its driver alone."""
    if whole_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def kill_at(root: Path, overrides: tuple[str, ...], condition, *, whole_group: bool = True) -> None:
    """Start the command and kill it with SIGKILL once `condition(root)` holds.

    whole_group: false kills the driver alone, whose workers must not outlive it.
    """
    with running_until(root, overrides, condition) as process:
        assert process.poll() is None, "the run ended before it was killed"
        send(process, signal.SIGKILL, whole_group=whole_group)


def stop_at(
    root: Path,
    overrides: tuple[str, ...],
    condition,
    number: signal.Signals = signal.SIGTERM,
    *,
    whole_group: bool = False,
) -> int:
    """Start the command and send it a signal once `condition(root)` holds; returns the exit status."""
    with running_until(root, overrides, condition) as process:
        send(process, number, whole_group=whole_group)
        return process.wait(timeout=120)


def kill_worker(root: Path) -> None:
    """SIGKILL for the process that touches weights, of the run below `root`, and for no other."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (folder / "cmdline").read_bytes().decode().split("\0")
            if "vrx.launch.worker" in told and any(argument.startswith(str(root)) for argument in told):
                os.kill(int(folder.name), signal.SIGKILL)


def has_steps(number: int) -> Callable[[Path], bool]:
    def condition(root: Path) -> bool:
        return any(
            len(path.read_text().splitlines()) >= number for path in root.glob("outputs/finetune/*/*/train.jsonl")
        )

    return condition


def left_behind(root: Path) -> dict[str, Any]:
    """Everything of a sweep's runs that must not depend on how it came about."""
    found = {}
    for folder in sorted((root / "outputs" / "finetune" / "tiny").iterdir()):
        record = json.loads((folder / "record.json").read_text())
        kept = {key: record[key] for key in ("run_id", "identity", "layers", "scores")}
        found[folder.name] = (kept, adapter(folder), [(row["step"], row["loss"]) for row in rows(folder)])
    return found
