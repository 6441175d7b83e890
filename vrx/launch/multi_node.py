"""Several machines in one run: node 0 drives it and writes its record, the others join in its workers and do no more.

The nodes share a file system. Node 0 listens at `runtime.rendezvous` and tells the others there which stage to join; a
node that ends, fails or vanishes is seen by the closed connection.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from vrx.config.errors import RunFailed, UserError
from vrx.config.schema import RuntimeConfig

TIMEOUT_SECONDS = 1800.0  # seconds that one node waits for another to start or to end


@dataclass(frozen=True)
class Node:
    """This machine among those of a run; node 0 listens at host:port."""

    num_nodes: int = 1
    rank: int = 0
    host: str = "127.0.0.1"
    port: int = 0


def this_node(runtime: RuntimeConfig) -> Node:
    """As configured, else as SLURM says of a job step over several nodes with one task on each."""
    step = os.environ.get("SLURM_STEP_NUM_NODES", "1")
    num_nodes = runtime.num_nodes or int(step)
    if num_nodes == 1:
        return Node()
    if runtime.num_nodes is None and os.environ.get("SLURM_STEP_NUM_TASKS", step) != step:
        tasks = os.environ["SLURM_STEP_NUM_TASKS"]
        raise UserError(f"{tasks} tasks on {step} nodes: valid is one a node (hydra.launcher.tasks_per_node=1)")
    rank = int(os.environ.get("SLURM_NODEID", -1)) if runtime.node_rank is None else runtime.node_rank
    rendezvous = runtime.rendezvous or _rendezvous_of_slurm()
    host, _, port = (rendezvous or "").rpartition(":")
    if not 0 <= rank < num_nodes or not host or not port.isdigit():
        raise UserError(
            f"runtime.num_nodes={num_nodes}: needs runtime.node_rank, 0 to {num_nodes - 1}, and runtime.rendezvous, "
            f"host:port of node 0; given are {runtime.node_rank} and {runtime.rendezvous}"
        )
    return Node(num_nodes, rank, host.strip("[]"), int(port))


def _rendezvous_of_slurm() -> str | None:
    """The address at which SLURM reaches this step's first node, and a port that no other job has."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    if not nodes or not (names := _scontrol("hostnames", nodes).split()):
        return None
    address = re.search(r"NodeAddr=(\S+)", _scontrol("node", names[0]))
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20000
    return f"{address.group(1) if address else names[0]}:{port}"


def _scontrol(*shown: str) -> str:
    try:
        return subprocess.run(["scontrol", "show", *shown], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


class Connection:
    """A connection on which each line is a JSON object."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that lost its power says nothing
        connection.settimeout(TIMEOUT_SECONDS)
        self.connection, self.lines = connection, connection.makefile("r", encoding="utf-8")

    def tell(self, **message: Any) -> None:
        with suppress(OSError):  # who is gone is noticed where one listens
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def spoke(self) -> bool:
        """Whether there is something to hear now, be it only that the other side is gone."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def hear(self) -> dict[str, Any] | None:
        """The next message; None where the other side is gone."""
        try:
            message = json.loads(self.lines.readline() or "null")
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        self.lines.close()
        self.connection.close()


class Peers:
    """Node 0's hold on the other nodes."""

    def __init__(self, here: Node, links: dict[int, Connection]) -> None:
        self.here, self.links = here, links
        self.working: set[int] = set()

    def call(self, stage: str, run_dir: str) -> int:
        """Have all nodes start this stage's workers; gives the port where they meet."""
        with socket.create_server((self.here.host, 0)) as free:
            port = free.getsockname()[1]
        for link in self.links.values():
            link.tell(stage=stage, run_dir=run_dir, port=port)
        self.working = set(self.links)
        return port

    def failed(self) -> str | None:
        """Why the stage cannot go on, where a node failed or is gone."""
        for number in sorted(self.working):
            if self.links[number].spoke():
                message = self.links[number].hear()
                if message is None:
                    return f"node {number} of the run is gone; the same command goes on from there"
                if message.get("status"):
                    return f"node {number} of the run ended with status {message['status']}; see its own lines"
                self.working.discard(number)
        return None

    def wait(self) -> str | None:
        """Until all nodes have ended this stage; why not, where one failed."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.working and time.monotonic() < deadline:
            if told := self.failed():
                return told
            time.sleep(0.05)
        return f"nodes {sorted(self.working)} of the run do not end" if self.working else None


_peers: Peers | None = None


def peers() -> Peers | None:
    """The other nodes of the run that this process drives; None where it has none."""
    return _peers


@contextmanager
def gather_nodes(here: Node, hello: dict[str, Any], say: Callable[[str], None]) -> Iterator[None]:
    """On node 0: wait for the others, hold them while the block runs, let them go at its end, however that is."""
    global _peers
    links: dict[int, Connection] = {}
    try:
        server = socket.create_server((here.host, here.port), backlog=here.num_nodes)
    except OSError as error:
        raise UserError(f"runtime.rendezvous={here.host}:{here.port}: node 0 cannot listen there ({error})") from None
    outcome = "node 0 did not end well"
    with server:
        say(f"waiting for {here.num_nodes - 1} more nodes at {here.host}:{here.port}; the same command starts them")
        server.settimeout(TIMEOUT_SECONDS)
        try:
            while len(links) < here.num_nodes - 1:
                link = Connection(server.accept()[0])
                link.connection.settimeout(10)
                told = link.hear() or {}
                refusal = _refusal(told, hello, taken=links.keys() | {0}, num_nodes=here.num_nodes)
                if refusal is None:
                    link.connection.settimeout(TIMEOUT_SECONDS)
                    links[told["node"]] = link
                else:
                    link.tell(end=refusal)
                    link.close()
            _peers = Peers(here, links)
            yield
            outcome = ""
        except TimeoutError:
            raise RunFailed(f"{len(links) + 1} of {here.num_nodes} nodes came to {here.host}:{here.port}") from None
        finally:
            _peers = None
            for link in links.values():
                link.tell(end=outcome)
                link.close()


def _refusal(told: dict[str, Any], hello: dict[str, Any], *, taken: set[int], num_nodes: int) -> str | None:
    if told.get("node") not in set(range(num_nodes)) - taken:
        return f"runtime.node_rank={told.get('node')}: is taken or not below runtime.num_nodes={num_nodes}"
    if told.get("processes") != hello["processes"]:
        return f"{told.get('processes')} processes here, {hello['processes']} on node 0; valid is the same number"
    if told.get("command") != hello["command"]:
        return "not the command of node 0; valid is the same, but for runtime.node_rank"
    return None


def join_node_0(here: Node, hello: dict[str, Any], work: Callable[[str, str, int, Connection], int]) -> None:
    """On another node: do the work that node 0 tells, stage by stage, until it says that the run has ended."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            link = Connection(socket.create_connection((here.host, here.port), timeout=10))
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunFailed(f"no node 0 at runtime.rendezvous={here.host}:{here.port} ({error})") from None
            time.sleep(0.3)
    with closing(link):
        link.tell(**hello)
        link.connection.settimeout(None)  # between two stages node 0 may work for long
        while (told := link.hear()) is not None:
            if told.get("end"):
                raise RunFailed(told["end"])
            if "stage" not in told:
                return
            link.tell(status=work(told["stage"], told["run_dir"], told["port"], link))
    raise RunFailed(f"node 0 at {here.host}:{here.port} is gone; the same command goes on from there")
