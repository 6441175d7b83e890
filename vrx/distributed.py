"""Processes: launching workers from the driver, and what a worker needs to know of its peers."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrx.config import RuntimeConfig


class RunFailed(RuntimeError):
    """A worker ended badly; its own line said why."""


READY = ".ready"
REFUSAL = ".refusal"  # in a run's directory: why its worker would not go on


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        import torch.distributed

        torch.distributed.barrier()


@functools.cache
def _installed_gpus() -> int:
    """GPUs of this machine, asked of the driver tool: the calling process need not import torch."""
    if not (tool := shutil.which("nvidia-smi")):
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def gpu_numbers() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = visible.split(",") if visible is not None else map(str, range(_installed_gpus()))
    return [device.strip() for device in named if device.strip() not in ("", "-1")]


def count_gpus() -> int:
    return len(gpu_numbers())


def num_processes(runtime: RuntimeConfig) -> int:
    """Workers of a run: one a GPU, or `runtime.cpu_processes` where there is no GPU."""
    gpus = count_gpus()
    if runtime.num_gpus is not None and runtime.num_gpus > gpus:
        raise ValueError(f"runtime.num_gpus={runtime.num_gpus}: valid is at most {gpus}, the GPUs of this machine")
    return (gpus if runtime.num_gpus is None else runtime.num_gpus) or runtime.cpu_processes


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG


def launch(
    stage: str, run_dir: Path, runtime: RuntimeConfig, *, while_running: Callable[[], Any] = lambda: None
) -> None:
    """Run one stage of a run in worker processes of its own and wait; `RunFailed` where it does not end well.

    The workers are torchrun's; a worker that refuses its input leaves the reason in a file, which is told here.
    `while_running` is called several times a second once they work, and when they have ended.
    """
    processes = num_processes(runtime)
    command = [sys.executable, "-m", "vrx.distributed", "--nnodes=1", f"--nproc-per-node={processes}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command += ["-m", "vrx.worker", stage, str(run_dir)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
    if runtime.num_gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.num_gpus == 0 or not count_gpus():
        environment.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found nothing better
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin where something else runs too
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    refusal, ready = run_dir / REFUSAL, run_dir / READY
    refusal.unlink(missing_ok=True)
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)
    bar = tqdm(
        desc=f"{stage}: starting {processes} process{'es' * (processes > 1)}",
        bar_format="{desc} {elapsed}",
        leave=False,
        disable=None,  # where no one watches
    )
    try:
        while process.poll() is None:
            if bar.disable or ready.exists():
                bar.close()
                while_running()
            else:
                bar.refresh()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
    finally:
        bar.close()
        if process.poll() is None:
            process.terminate()
            process.wait()
    while_running()
    if refusal.is_file():
        raise RunFailed(refusal.read_text(encoding="utf-8"))
    if process.returncode:
        raise RunFailed(
            f"{stage} ended with status {process.returncode} ({run_dir}); the same command goes on from there"
        )


def set_ready(run_dir: Path) -> None:
    """Tell `launch` that the workers have begun, and that the terminal is theirs."""
    if is_main():
        (run_dir / READY).touch()


def refuse(run_dir: Path, error: Exception) -> None:
    """Leave the reason why a worker ends where `launch` finds it."""
    (run_dir / REFUSAL).write_text(str(error), encoding="utf-8")


def torchrun() -> None:
    """torchrun, without its page of text where a worker ends badly: the worker's own words are enough."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.run").setLevel(logging.ERROR)
    die_with_parent()
    try:
        main()
    except ChildFailedError as error:
        sys.exit(next(iter(error.failures.values())).exitcode or 1)


@contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock; it falls with the process, so a killed run leaves none behind."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFailed(f"{run_dir}: another vrx works on this run; wait for it or stop it") from None
        yield


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for one's turn at making a folder that several runs need."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(run_dir: Path) -> bool:
    """Whether a process works on this run now."""
    if not (run_dir / ".lock").is_file():
        return False
    with (run_dir / ".lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def log(message: str) -> None:
    """One line on the terminal, from rank 0 alone."""
    if is_main():
        print(f"vrx: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    torchrun()
