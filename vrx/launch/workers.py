"""Starts the workers of a stage, on this machine or on all nodes of a run, and waits for them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from vrx.config.errors import RunFailed, UserError
from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig, RuntimeConfig
from vrx.launch import multi_node, preemption
from vrx.launch.failures import KILLERS, ended_text, first_cause, signal_name
from vrx.launch.gpus import count_gpus
from vrx.launch.logging import log
from vrx.launch.node import Node, this_node
from vrx.launch.node_connection import Connection
from vrx.launch.ranks import ERROR_LINE, ERROR_LINE_BYTES, PARENT, READY, die_with_parent
from vrx.runs.run_dir import RunDir

WITH_CHECKPOINTS = ("train", "pretrain")  # stages
SINGLE_WORKER = {  # the environment that torchrun would give its only worker; port 0: any unused one
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
}

# oneDNN compiles a program for each shape of a bf16 matrix product on a CPU. It and torch keep 1024 each, a few hundred
# kB apiece; steps of ever new lengths fill memory with them, and what is free between them is slow to search.
SHAPE_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
SHAPES_KEPT = "64"  # more than one micro-batch has


def processes_per_node(runtime: RuntimeConfig) -> int:
    """Workers of a run on this machine: one per GPU, or `runtime.cpu_processes` where there is no GPU."""
    gpus = count_gpus()
    if runtime.num_gpus is not None and runtime.num_gpus > gpus:
        raise UserError(f"runtime.num_gpus={runtime.num_gpus}: valid is at most {gpus}, the GPUs of this machine")
    return (gpus if runtime.num_gpus is None else runtime.num_gpus) or runtime.cpu_processes


def num_processes(runtime: RuntimeConfig) -> int:
    """Workers of a run on all its nodes, which have equally many."""
    return processes_per_node(runtime) * this_node(runtime).num_nodes


def on_all_nodes(job: Callable[[RunConfig], None], run: RunConfig) -> None:
    """Do a run's job; in a run over several nodes, do it on node 0 and start workers for it on the others."""
    node = this_node(run.runtime)
    if node.num_nodes == 1:
        return job(run)
    without_rank = dataclasses.replace(run, runtime=dataclasses.replace(run.runtime, node_rank=None))
    command = hashlib.sha256(freeze(without_rank).encode()).hexdigest()
    hello = multi_node.Hello(node.rank, processes_per_node(run.runtime), command)
    output_root = Path(run.runtime.output_root).absolute()
    if node.rank == 0:
        with multi_node.gather_nodes(node, hello, output_root=output_root, log=log):
            job(run)
        return
    log(f"node {node.rank} of {node.num_nodes}: joins the run of node 0 at {node.address}")
    with preemption.deferred():  # node 0 decides
        multi_node.join_node_0(
            node,
            hello,
            output_root=output_root,
            job_run=Path(run.job.run).absolute() if run.job.run else None,
            log=log,
            work=functools.partial(_run_workers_for_node_0, run.runtime, node),
        )


def _start_workers(
    stage: str, run_dir: Path, runtime: RuntimeConfig, rendezvous_options: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start this node's workers of a stage; without rendezvous options, the only worker of the run."""
    processes, worker = processes_per_node(runtime), ["-m", "vrx.launch.worker", stage, str(run_dir)]
    torchrun = ["-m", "vrx.launch.workers", f"--nproc-per-node={processes}", *rendezvous_options]
    command = [sys.executable, *(torchrun if rendezvous_options else []), *worker]
    environment = {**os.environ, **SINGLE_WORKER, "TOKENIZERS_PARALLELISM": "false"}
    if runtime.num_gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if runtime.num_gpus == 0 or not count_gpus():
        environment.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found no accelerator
    if "OMP_WAIT_POLICY" not in os.environ:  # let OpenMP threads spin briefly between operations
        environment.setdefault("GOMP_SPINCOUNT", "20000")
    for cache in SHAPE_CACHES:
        environment.setdefault(cache, SHAPES_KEPT)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    with preemption.interrupts_held_back():  # of Ctrl-C the driver alone speaks, and it ends its workers
        return subprocess.Popen(command, env={**environment, PARENT: str(os.getpid())})


def _rendezvous_options(runtime: RuntimeConfig, node: Node, port: int) -> list[str]:
    """torchrun's options by which the processes of all nodes meet; node ranks determine the order of process ranks.

    Empty for a single process, which needs no torchrun (it would only import torch once more).
    """
    if node.num_nodes == 1 and processes_per_node(runtime) == 1:
        return []
    if node.num_nodes == 1:
        return ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    master = [f"--master-addr={node.host}", f"--master-port={port}"]
    return [f"--nnodes={node.num_nodes}", f"--node-rank={node.rank}", *master]


def _run_workers_for_node_0(
    runtime: RuntimeConfig, node: Node, stage: str, run_dir: Path, port: int, connection: Connection
) -> int:
    """Run this node's workers of a stage and return their exit status; any word from node 0 ends them early."""
    process = _start_workers(stage, run_dir, runtime, _rendezvous_options(runtime, node, port))
    try:
        while process.poll() is None and not connection.is_readable():
            if preemption.requested():
                preemption.stop_file(run_dir).touch()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
    finally:
        _end(process)
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill workers that still run; those of torchrun die with it. SIGTERM would ask them for a checkpoint."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if signal_name(process.returncode) in KILLERS and sys.stderr.isatty():
        print(file=sys.stderr)  # a killed worker leaves its progress bar, which only a terminal shows, without an end


def launch(
    stage: str, run_dir: Path, runtime: RuntimeConfig, *, while_running: Callable[[], Any] = lambda: None
) -> None:
    """Run one stage of a run in worker processes and wait for them; raises `RunFailed` if one fails or the run's
    folder is removed.

    torchrun starts several workers; a worker that ends with an error leaves the line to print in a file. When this
    command is asked to stop, a training may first write a checkpoint; then `Preempted` is raised.

    while_running: called several times a second while the workers run, and once after they have ended.
    """
    node, other_nodes = this_node(runtime), multi_node.other_nodes()
    assert other_nodes or node.num_nodes == 1, "on_all_nodes runs the jobs of several nodes"
    error_line, ready = run_dir / ERROR_LINE, run_dir / READY
    error_line.write_bytes(b" " * ERROR_LINE_BYTES)  # reserved now: it has to report a full disk too
    for file in (ready, preemption.stop_file(run_dir)):
        file.unlink(missing_ok=True)
    RunDir(run_dir).worker_log.unlink(missing_ok=True)
    port = other_nodes.start_stage(stage, run_dir) if other_nodes else 0
    process = _start_workers(stage, run_dir, runtime, _rendezvous_options(runtime, node, port))
    processes = num_processes(runtime)
    bar = tqdm(
        desc=f"{stage}: starting {processes} process{'es' * (processes > 1)}",
        bar_format="{desc} {elapsed}",
        leave=False,
        disable=None,  # unless stderr is a terminal
    )
    may_go_on = preemption.deferred() if stage in WITH_CHECKPOINTS else nullcontext()
    with ExitStack() as stack:
        stack.callback(_end, process)
        stack.callback(bar.close)
        stack.enter_context(may_go_on)
        while process.poll() is None and not (other_nodes and other_nodes.failure()):
            _require_folder(run_dir, stage)
            if preemption.requested():
                preemption.stop_file(run_dir).touch()
            if bar.disable or ready.exists():
                bar.close()
                while_running()
            else:
                bar.refresh()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.3)
        if other_nodes and not other_nodes.lost:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=multi_node.GRACE_SECONDS)  # workers that failed first may take longer to end
        status = process.poll()  # None: they go on, and are ended because another node failed
    _require_folder(run_dir, stage)
    while_running()
    node_failure = other_nodes.wait(has_failed=process.returncode != 0) if other_nodes else None
    line = error_line.read_text(encoding="utf-8", errors="replace").strip()
    for file in (error_line, preemption.stop_file(run_dir)):
        file.unlink(missing_ok=True)
    if preemption.requested() or status == preemption.RESUME:
        preemption.stop()
    own_failure = f"{stage} {ended_text(status)} ({run_dir}); run the same command to resume" if status else ""
    if message := first_cause(line, own_failure, status, other_nodes, node_failure):
        raise RunFailed(message)


def _require_folder(run_dir: Path, stage: str) -> None:
    """`RunFailed` where someone removed the folder, so that no training goes on whose results cannot be written."""
    if not run_dir.is_dir():
        raise RunFailed(f"{run_dir}: was removed while {stage} ran")


def torchrun() -> None:
    """Run torchrun without its page of text about a worker that failed: the worker reports its error itself."""
    from torch.distributed.elastic.multiprocessing import api
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    for number in preemption.SIGNALS:  # which the workers answer; they would inherit other handlers' effects
        signal.signal(number, signal.SIG_IGN)
    end_all = api._terminate_process_handler  # torchrun sets it for SIGTERM too

    def end_unless_asked_to_stop(number: int, frame: FrameType | None) -> None:
        if number not in preemption.SIGNALS:
            end_all(number, frame)

    api._terminate_process_handler = end_unless_asked_to_stop
    api._get_default_signal = lambda: signal.SIGKILL  # for workers that remain when one has failed
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.run").setLevel(logging.ERROR)
    die_with_parent()
    try:
        main()
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        killed = [status for status in statuses if status < 0 and signal_name(status) in KILLERS]
        sys.exit(next(iter([128 - status for status in killed] or [status % 256 for status in statuses])) or 1)


if __name__ == "__main__":
    torchrun()
