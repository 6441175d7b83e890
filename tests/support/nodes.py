"""Node 0 and node 1 of a run, which meet through real sockets in one process."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.ports import free_port

from vrx.launch import multi_node
from vrx.launch.multi_node import Hello, OtherNodes
from vrx.launch.node import Node
from vrx.launch.node_connection import Connection

HELLO = Hello(node=1, processes=1, command="digest")
Work = Callable[[str, Path, int, Connection], int]


def succeed(stage: str, run_dir: Path, port: int, connection: Connection) -> int:
    return 0


@dataclass
class Meeting:
    """Node 0 and node 1 of a run, each in a thread of this process."""

    output_root: Path
    node: Node = field(default_factory=lambda: Node(2, 0, "127.0.0.1", free_port()))
    log: list[str] = field(default_factory=list)  # of node 0
    errors: list[BaseException] = field(default_factory=list)  # of node 1
    job_run: Path | None = None
    joiner_log: Callable[[str], None] = lambda line: None

    def run(
        self,
        job: Callable[[OtherNodes], None] = lambda other_nodes: None,
        *,
        work: Work = succeed,
        hello: Hello = HELLO,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Node 0 does `job`, node 1 says `hello` and does `work`.

        before: called when node 0 listens, before node 1 connects.
        """
        listening = threading.Event()

        def join() -> None:
            listening.wait(timeout=60)
            before()
            try:
                multi_node.join_node_0(
                    dataclasses.replace(self.node, rank=1),
                    hello,
                    output_root=self.output_root,
                    job_run=self.job_run,
                    log=self.joiner_log,
                    work=work,
                )
            except BaseException as error:
                self.errors.append(error)

        def log(line: str) -> None:
            self.log.append(line)
            listening.set()

        thread = threading.Thread(target=join)
        thread.start()
        own = dataclasses.replace(HELLO, node=0)
        try:
            with multi_node.gather_nodes(self.node, own, output_root=self.output_root, log=log):
                other_nodes = multi_node.other_nodes()
                assert other_nodes is not None
                job(other_nodes)
        finally:
            thread.join(timeout=60)
        assert not thread.is_alive()
        assert multi_node.other_nodes() is None
