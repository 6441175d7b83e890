"""Processes: launching workers from the driver, and what a worker needs to know of its peers."""

from __future__ import annotations

import ctypes
import dataclasses
import fcntl
import functools
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrx import nodes
from vrx.config import RunConfig, RuntimeConfig, freeze
from vrx.nodes import RunFailed
from vrx.paths import disk_refusal

READY = ".ready"
REFUSAL = ".refusal"  # in a run's directory: why its worker would not go on
ROOM = 4096  # bytes of it


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


def processes_here(runtime: RuntimeConfig) -> int:
    """Workers of a run on this machine: one a GPU, or `runtime.cpu_processes` where there is no GPU."""
    gpus = count_gpus()
    if runtime.num_gpus is not None and runtime.num_gpus > gpus:
        raise ValueError(f"runtime.num_gpus={runtime.num_gpus}: valid is at most {gpus}, the GPUs of this machine")
    return (gpus if runtime.num_gpus is None else runtime.num_gpus) or runtime.cpu_processes


def num_processes(runtime: RuntimeConfig) -> int:
    """Workers of a run on all its nodes, which have as many each."""
    return processes_here(runtime) * nodes.place(runtime).num_nodes


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG


def on_all_nodes(job: Callable[[RunConfig], None], run: RunConfig) -> None:
    """Do a run's job on this machine; where the run has several nodes, on node 0, with the others' workers."""
    here = nodes.place(run.runtime)
    if here.num_nodes == 1:
        return job(run)
    same = dataclasses.replace(run, runtime=dataclasses.replace(run.runtime, node_rank=None))
    command = hashlib.sha256(freeze(same).encode()).hexdigest()
    hello = {"node": here.rank, "processes": processes_here(run.runtime), "command": command}
    if here.rank == 0:
        with nodes.gathered(here, hello, log):
            job(run)
    else:
        log(f"node {here.rank} of {here.num_nodes}: joins in what node 0, {here.host}:{here.port}, has it do")
        nodes.join(here, hello, functools.partial(_join_workers, run.runtime, here))


def _start_workers(
    stage: str, run_dir: str | Path, runtime: RuntimeConfig, meeting: Sequence[str]
) -> subprocess.Popen[bytes]:
    processes = processes_here(runtime)
    command = [sys.executable, "-m", "vrx.distributed", f"--nproc-per-node={processes}", *meeting]
    command += ["-m", "vrx.worker", stage, str(run_dir)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
    if runtime.num_gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.num_gpus == 0 or not count_gpus():
        environment.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found nothing better
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin where something else runs too
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)


def _meeting(here: nodes.Place, port: int) -> list[str]:
    """torchrun's options by which the processes of all nodes find each other; ranks follow the nodes' numbers."""
    if here.num_nodes == 1:
        return ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    there = [f"--master-addr={here.host}", f"--master-port={port}"]
    return [f"--nnodes={here.num_nodes}", f"--node-rank={here.rank}", *there]


def _join_workers(
    runtime: RuntimeConfig, here: nodes.Place, stage: str, run_dir: str, port: int, link: nodes.Link
) -> int:
    """This node's workers of a stage; ends them where node 0 says or sends nothing more. Gives their exit status."""
    process = _start_workers(stage, run_dir, runtime, _meeting(here, port))
    try:
        while process.poll() is None and not link.spoke():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
    finally:
        _end(process)
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


def launch(
    stage: str, run_dir: Path, runtime: RuntimeConfig, *, while_running: Callable[[], Any] = lambda: None
) -> None:
    """Run one stage of a run in worker processes of its own and wait; `RunFailed` where it does not end well.

    The workers are torchrun's; a worker that refuses its input leaves the reason in a file, which is told here.
    `while_running` is called several times a second once they work, and when they have ended.
    """
    here, peers = nodes.place(runtime), nodes.peers()
    assert peers or here.num_nodes == 1, "a job of several nodes is done by on_all_nodes"
    refusal, ready = run_dir / REFUSAL, run_dir / READY
    refusal.write_bytes(b" " * ROOM)  # held now: it is to tell of a full disk too
    ready.unlink(missing_ok=True)
    process = _start_workers(stage, run_dir, runtime, _meeting(here, peers.call(stage, str(run_dir)) if peers else 0))
    processes, lost = num_processes(runtime), None
    bar = tqdm(
        desc=f"{stage}: starting {processes} process{'es' * (processes > 1)}",
        bar_format="{desc} {elapsed}",
        leave=False,
        disable=None,  # where no one watches
    )
    try:
        while process.poll() is None and lost is None:
            if bar.disable or ready.exists():
                bar.close()
                while_running()
            else:
                bar.refresh()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
            lost = peers.failed() if peers else None
    finally:
        bar.close()
        _end(process)
    while_running()
    if peers and process.returncode == 0:
        lost = lost or peers.wait()
    told = refusal.read_text(encoding="utf-8", errors="replace").strip()
    refusal.unlink()
    if told or lost:
        raise RunFailed(told or lost)
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
    told = disk_refusal(error, run_dir) or str(error)
    with (run_dir / REFUSAL).open("r+b") as file:
        file.write(told.encode()[:ROOM].ljust(ROOM))


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
