"""Launching: the workers of a stage, on this machine or on all nodes of a run, and what they end with."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vrx.config.errors import RunFailed, UserError
from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig, RuntimeConfig
from vrx.launch import multi_node
from vrx.launch.gpus import count_gpus
from vrx.launch.logging import log
from vrx.launch.ranks import ERROR_LINE, ERROR_LINE_BYTES, PARENT, READY, WORKER_LOG, die_with_parent

ALONE = {  # what torchrun would tell its only worker; port 0: any that is free
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}


def processes_here(runtime: RuntimeConfig) -> int:
    """Workers of a run on this machine: one a GPU, or `runtime.cpu_processes` where there is no GPU."""
    gpus = count_gpus()
    if runtime.num_gpus is not None and runtime.num_gpus > gpus:
        raise UserError(f"runtime.num_gpus={runtime.num_gpus}: valid is at most {gpus}, the GPUs of this machine")
    return (gpus if runtime.num_gpus is None else runtime.num_gpus) or runtime.cpu_processes


def num_processes(runtime: RuntimeConfig) -> int:
    """Workers of a run on all its nodes, which have as many each."""
    return processes_here(runtime) * multi_node.this_node(runtime).num_nodes


def on_all_nodes(job: Callable[[RunConfig], None], run: RunConfig) -> None:
    """Do a run's job on this machine; where the run has several nodes, on node 0, with the others' workers."""
    here = multi_node.this_node(run.runtime)
    if here.num_nodes == 1:
        return job(run)
    same = dataclasses.replace(run, runtime=dataclasses.replace(run.runtime, node_rank=None))
    command = hashlib.sha256(freeze(same).encode()).hexdigest()
    hello = {"node": here.rank, "processes": processes_here(run.runtime), "command": command}
    if here.rank == 0:
        with multi_node.gather_nodes(here, hello, log):
            job(run)
    else:
        log(f"node {here.rank} of {here.num_nodes}: joins in what node 0, {here.host}:{here.port}, has it do")
        multi_node.join_node_0(here, hello, functools.partial(_join_workers, run.runtime, here))


def _start_workers(
    stage: str, run_dir: str | Path, runtime: RuntimeConfig, meeting: Sequence[str]
) -> subprocess.Popen[bytes]:
    """This node's workers of a stage; `meeting` is empty for one that is alone."""
    processes, worker = processes_here(runtime), ["-m", "vrx.launch.worker", stage, str(run_dir)]
    torchrun = ["-m", "vrx.launch.workers", f"--nproc-per-node={processes}", *meeting] if meeting else []
    command = [sys.executable, *torchrun, *worker]
    environment = {**os.environ, **ALONE, "TOKENIZERS_PARALLELISM": "false"}
    if runtime.num_gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.num_gpus == 0 or not count_gpus():
        environment.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found nothing better
    if "OMP_WAIT_POLICY" not in os.environ:  # threads wait awake between two operations, and not where others work
        environment.setdefault("GOMP_SPINCOUNT", "20000")
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return subprocess.Popen(command, env={**environment, PARENT: str(os.getpid())})


def _meeting(runtime: RuntimeConfig, here: multi_node.Node, port: int) -> list[str]:
    """torchrun's options by which the processes of all nodes find each other; ranks follow the nodes' numbers.

    None for one process: there is no one to find, and torchrun would only import torch once more.
    """
    if here.num_nodes == 1 and processes_here(runtime) == 1:
        return []
    if here.num_nodes == 1:
        return ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    there = [f"--master-addr={here.host}", f"--master-port={port}"]
    return [f"--nnodes={here.num_nodes}", f"--node-rank={here.rank}", *there]


def _join_workers(
    runtime: RuntimeConfig, here: multi_node.Node, stage: str, run_dir: str, port: int, link: multi_node.Connection
) -> int:
    """This node's workers of a stage; ends them where node 0 says or sends nothing more. Gives their exit status."""
    process = _start_workers(stage, run_dir, runtime, _meeting(runtime, here, port))
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

    torchrun starts several workers; a worker that ends with an error leaves the line to print in a file.
    `while_running` is called several times a second once they work, and when they have ended.
    """
    here, peers = multi_node.this_node(runtime), multi_node.peers()
    assert peers or here.num_nodes == 1, "a job of several nodes is done by on_all_nodes"
    error_line, ready = run_dir / ERROR_LINE, run_dir / READY
    error_line.write_bytes(b" " * ERROR_LINE_BYTES)  # reserved now: it has to report a full disk too
    ready.unlink(missing_ok=True)
    (run_dir / WORKER_LOG).unlink(missing_ok=True)
    port = peers.call(stage, str(run_dir)) if peers else 0
    process = _start_workers(stage, run_dir, runtime, _meeting(runtime, here, port))
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
    message = error_line.read_text(encoding="utf-8", errors="replace").strip() or lost
    error_line.unlink()
    if message:
        raise RunFailed(message)
    if process.returncode:
        raise RunFailed(
            f"{stage} ended with status {process.returncode} ({run_dir}); the same command goes on from there"
        )


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


if __name__ == "__main__":
    torchrun()
