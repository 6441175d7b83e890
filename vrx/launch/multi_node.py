"""Runs over several machines: node 0 drives the run and writes its record, the others only start workers for it.

The nodes share a file system. Node 0 listens at `runtime.rendezvous` and sends the others the stages whose workers they
start; a node that ends, fails or vanishes is noticed by its closed connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vrx.config.errors import RunFailed, UserError
from vrx.launch.hello import Hello, refusal
from vrx.launch.node import Node
from vrx.launch.node_connection import Connection, InvalidLine, new_token, token_path
from vrx.launch.preemption import Preempted

TIMEOUT_SECONDS = 1800.0  # that one node waits for another to start or to end
HELLO_SECONDS = 10.0  # that node 0 waits for the first line on a new connection
RETRY_SECONDS = 0.3
PREEMPTED = "node 0 was asked to stop; run the same command to resume"
GRACE_SECONDS = 10.0  # after a failure, for a node that is gone to be noticed: its workers may end before its driver


class OtherNodes:
    """Node 0's connections to the other nodes, by rank."""

    def __init__(self, node: Node, connections: dict[int, Connection]) -> None:
        self._node, self._connections = node, connections
        self._running: set[int] = set()  # ranks whose workers have not ended yet
        self.lost: str | None = None  # why a node cannot take part any more
        self.failed: dict[int, int] = {}  # exit statuses of the workers that failed, by the rank of their node

    def start_stage(self, stage: str, run_dir: Path) -> int:
        """Have all other nodes start their workers of a stage; returns the port at which all workers meet."""
        with socket.create_server((self._node.host, 0)) as unused:
            port = unused.getsockname()[1]
        for connection in self._connections.values():
            connection.send(stage=stage, run_dir=str(run_dir), port=port)
        self._running, self.lost, self.failed = set(self._connections), None, {}
        return port

    def failure(self) -> str | None:
        """Why the stage cannot continue; None while all is well.

        A node that is gone comes before one whose workers failed: they fail because it is gone.
        """
        for rank in sorted(self._running):
            if not self._connections[rank].is_readable():
                continue
            self._running.discard(rank)
            try:
                message, fault = self._connections[rank].receive(timeout=TIMEOUT_SECONDS), "is gone"
            except InvalidLine as error:
                message, fault = None, f"sent {error}"
            if message is None:
                self.lost = self.lost or f"node {rank} {fault}; run the same command to resume"
            elif message["status"] != 0:
                self.failed[rank] = message["status"]
        if self.lost or not self.failed:
            return self.lost
        rank, status = next(iter(self.failed.items()))
        return f"node {rank} ended with status {status}; see its own output"

    def wait(self, *, has_failed: bool = False) -> str | None:
        """Wait until all nodes have ended the stage; returns why it failed on another node, None if it did not.

        has_failed: the stage has failed already. After a failure, the other nodes have GRACE_SECONDS to end the stage
        or to be missed: the workers of all nodes fail when a node is gone, perhaps before its connection is closed.
        """
        deadline = time.monotonic() + (GRACE_SECONDS if has_failed else TIMEOUT_SECONDS)
        while self._running and not self.lost and time.monotonic() < deadline:
            if self.failure() and not has_failed:
                return self.wait(has_failed=True)
            time.sleep(0.05)
        if failure := self.failure():
            return failure
        late = self._running and not has_failed
        return f"nodes {sorted(self._running)} did not end in {TIMEOUT_SECONDS:g} s" if late else None


_other_nodes: OtherNodes | None = None


def other_nodes() -> OtherNodes | None:
    """The other nodes of the run that this process drives; None in a run on one machine."""
    return _other_nodes


@contextmanager
def gather_nodes(node: Node, hello: Hello, *, output_root: Path, log: Callable[[str], None]) -> Iterator[None]:
    """On node 0: wait for the other nodes, keep them connected inside the block, release them when it ends."""
    global _other_nodes
    connections: dict[int, Connection] = {}
    outcome = "node 0 failed"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((node.host, node.port))  # before the token, which may be that of another run at this port
        except OSError as error:
            raise UserError(f"runtime.rendezvous={node.address}: node 0 cannot listen there ({error})") from None
        with new_token(token_path(output_root, node.host, node.port)) as token:
            server.listen(node.num_nodes)
            log(f"waiting for {node.num_nodes - 1} more nodes at {node.address}; run the same command on each")
            try:
                _accept_all(server, token, connections, node=node, hello=hello, log=log)
                _other_nodes = OtherNodes(node, connections)
                yield
                outcome = ""
            except Preempted:
                outcome = PREEMPTED
                raise
            finally:
                _other_nodes = None
                for connection in connections.values():
                    connection.send(end=outcome)
                    connection.close()


def _accept_all(
    server: socket.socket,
    token: bytes,
    connections: dict[int, Connection],
    *,
    node: Node,
    hello: Hello,
    log: Callable[[str], None],
) -> None:
    """Fill in the connections of all other nodes; whoever is none of them is turned away."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(connections) < node.num_nodes - 1:
        try:
            server.settimeout(max(0.001, deadline - time.monotonic()))
            accepted, (host, *_) = server.accept()
        except TimeoutError:
            raise RunFailed(f"{len(connections) + 1} of {node.num_nodes} nodes came to {node.address}") from None
        connection = Connection(accepted, token, is_node_0=True)
        try:
            message = connection.receive(timeout=HELLO_SECONDS)
        except InvalidLine as error:
            log(f"closed a connection from {host}, which sent {error}")
            message = None
        if message is None:
            connection.close()
        elif reason := refusal(Hello(**message), hello, connected=connections.keys(), num_nodes=node.num_nodes):
            connection.send(end=reason)
            connection.close()
        else:
            connection.send(welcome=True)
            connections[message["node"]] = connection


def join_node_0(
    node: Node,
    hello: Hello,
    *,
    output_root: Path,
    job_run: Path | None,
    log: Callable[[str], None],
    work: Callable[[str, Path, int, Connection], int],
) -> None:
    """On another node: start the workers that node 0 asks for, stage by stage, until it says that the run has ended.

    job_run: the finished run that this node's own command works on; other run directories must be below the output
    root. work: runs this node's workers of a stage (name, run directory, port, connection), returns their exit status.
    """
    with closing(_connect(node, hello, output_root, log)) as connection:
        while (message := _receive(connection, timeout=None)) is not None:  # node 0 may work alone for long
            if "end" in message:
                if message["end"] == PREEMPTED:
                    raise Preempted(PREEMPTED)
                if message["end"]:
                    raise RunFailed(message["end"])
                return
            run_dir = Path(message["run_dir"])
            if not any(run_dir.resolve().is_relative_to(root.resolve()) for root in (output_root, job_run) if root):
                connection.send(status=2)
                raise UserError(
                    f"runtime.output_root={output_root}: node 0 asked for workers in {run_dir}, which is not below it"
                )
            connection.send(status=work(message["stage"], run_dir, message["port"], connection))
    raise RunFailed(f"node 0 at {node.address} is gone; run the same command to resume")


class _NotAdmitted(Exception):
    """Node 0 cannot be joined yet; the message says why."""


def _connect(node: Node, hello: Hello, output_root: Path, log: Callable[[str], None]) -> Connection:
    """Connect to node 0 and be admitted; retries until node 0 listens and its token can be read."""
    deadline, last_reason = time.monotonic() + TIMEOUT_SECONDS, ""
    while True:
        try:
            return _connect_once(node, hello, output_root, timeout=max(0.0, deadline - time.monotonic()))
        except _NotAdmitted as reason:
            if time.monotonic() > deadline:
                raise RunFailed(str(reason)) from None
            if str(reason) != last_reason:
                last_reason = str(reason)
                log(f"waiting, {reason}")
        time.sleep(RETRY_SECONDS)


def _connect_once(node: Node, hello: Hello, output_root: Path, *, timeout: float) -> Connection:
    path = token_path(output_root, node.host, node.port)
    try:
        opened = socket.create_connection((node.host, node.port), timeout=HELLO_SECONDS)
    except OSError as error:
        raise _NotAdmitted(f"no node 0 at runtime.rendezvous={node.address} ({error})") from None
    try:
        token = path.read_bytes()  # node 0 wrote it before it listened
    except OSError as error:
        opened.close()
        shared = "runtime.output_root must be the same shared folder on all nodes"
        raise _NotAdmitted(f"no token of node 0: {path}: {error.strerror}; {shared}") from None
    connection = Connection(opened, token, is_node_0=False)
    connection.send(**asdict(hello))
    message = _receive(connection, timeout=timeout)
    if message is not None and "welcome" in message:
        return connection
    connection.close()
    if message is not None:
        raise RunFailed(message["end"])
    raise _NotAdmitted(f"runtime.rendezvous={node.address}: closed the connection or does not know the token {path}")


def _receive(connection: Connection, *, timeout: float | None) -> dict[str, Any] | None:
    """The next message of node 0; None also for a line that node 0 cannot have sent."""
    try:
        return connection.receive(timeout=timeout)
    except InvalidLine:
        return None
