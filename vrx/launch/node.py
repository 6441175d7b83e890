"""This machine's rank among the nodes of a run, as configured or from SLURM."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from vrx.config.errors import UserError
from vrx.config.schema import RuntimeConfig


@dataclass(frozen=True)
class Node:
    """This machine's rank among the nodes of a run; node 0 listens at host:port."""

    num_nodes: int = 1
    rank: int = 0
    host: str = "127.0.0.1"
    port: int = 0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def this_node(runtime: RuntimeConfig) -> Node:
    """This machine's node: as configured, else from a SLURM job step with one task on each node."""
    step = os.environ.get("SLURM_STEP_NUM_NODES", "1")
    num_nodes = runtime.num_nodes or int(step)
    if num_nodes == 1:
        if runtime.node_rank:
            raise UserError(
                f"runtime.node_rank={runtime.node_rank}: this run has one machine; name the number by runtime.num_nodes"
            )
        return Node()
    if runtime.num_nodes is None and os.environ.get("SLURM_STEP_NUM_TASKS", step) != step:
        tasks = os.environ["SLURM_STEP_NUM_TASKS"]
        raise UserError(f"{tasks} tasks on {step} nodes: valid is one task per node (hydra.launcher.tasks_per_node=1)")
    rank = int(os.environ.get("SLURM_NODEID", -1)) if runtime.node_rank is None else runtime.node_rank
    rendezvous = runtime.rendezvous or _rendezvous_of_slurm()
    host, _, port = (rendezvous or "").rpartition(":")
    if not 0 <= rank < num_nodes or not host or not port.isdigit():
        raise UserError(
            f"runtime.num_nodes={num_nodes}: needs runtime.node_rank, 0 to {num_nodes - 1}, and runtime.rendezvous, "
            f"host:port of node 0; they are {runtime.node_rank} and {runtime.rendezvous}"
        )
    return Node(num_nodes, rank, host.strip("[]"), int(port))


def _rendezvous_of_slurm() -> str | None:
    """Address of the first node of this SLURM step, with a port derived from the job id."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    if not nodes or not (names := _scontrol("hostnames", nodes).split()):
        return None
    address = re.search(r"NodeAddr=(\S+)", _scontrol("node", names[0]))
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20000
    return f"{address.group(1) if address else names[0]}:{port}"


def _scontrol(*arguments: str) -> str:
    try:
        return subprocess.run(["scontrol", "show", *arguments], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
