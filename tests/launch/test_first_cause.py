"""Workers of several nodes fail one after another, and the first cause is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.nodes import Meeting, Work

from vrx.config.errors import RunFailed
from vrx.config.schema import RuntimeConfig
from vrx.launch import multi_node
from vrx.launch.multi_node import OtherNodes
from vrx.launch.node import Node
from vrx.launch.node_connection import Connection
from vrx.launch.ranks import ERROR_LINE
from vrx.launch.workers import launch

MISSED = "train failed: RuntimeError: Connection closed by peer; the traceback is in worker.log"
GONE = "node {} is gone; run the same command to resume"
WORKERS = """
import os, pathlib, sys
if "vrx.launch.workers" in sys.orig_argv:
    with pathlib.Path(sys.orig_argv[-1], {file!r}).open("r+b") as file:
        file.write({line!r})
    os._exit({status})
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_node, "GRACE_SECONDS", 60.0)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Launch a stage whose workers on node 0 end at once with this line and status; returns what is told of it.

    work: what node 1 does.
    """

    def fail(line: str, status: int, work: Work) -> str:
        text = WORKERS.format(file=ERROR_LINE, line=line.encode(), status=status)
        (tmp_path / "sitecustomize.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
        meeting, run_dir = Meeting(tmp_path / "outputs"), tmp_path / "outputs" / "run"
        run_dir.mkdir(parents=True)
        runtime = RuntimeConfig(num_gpus=0, num_nodes=2, node_rank=0, rendezvous=meeting.node.address)
        with pytest.raises(RunFailed) as caught:
            meeting.run(lambda other_nodes: launch("train", run_dir, runtime), work=work)
        return str(caught.value)

    return fail


def reported(run_dir: Path) -> bool:
    return bool((run_dir / ERROR_LINE).read_bytes().strip())


def vanish_a_second_later(stage: str, run_dir: Path, port: int, connection: Connection) -> int:
    """The end of node 1, noticed later than that of node 0's workers, which miss it."""
    while not reported(run_dir):
        time.sleep(0.02)
    time.sleep(1)
    raise ArithmeticError  # closes the connection


def stay(stage: str, run_dir: Path, port: int, connection: Connection) -> int:
    """Workers of node 1 that go on until node 0 ends the run."""
    while not connection.is_readable():
        time.sleep(0.02)
    return 0


def end_with(status: int, line: str = "") -> Work:
    """Workers of node 1 that end with this status after those of node 0, or, with a line, before they report."""

    def work(stage: str, run_dir: Path, port: int, connection: Connection) -> int:
        if line:
            with (run_dir / ERROR_LINE).open("r+b") as file:
                file.write(line.encode())
        while not reported(run_dir):
            time.sleep(0.02)
        return status

    return work


def test_a_node_that_is_missed_late_is_told_instead_of_the_workers_that_missed_it_first(fail, patient: None):
    assert fail(MISSED, 1, vanish_a_second_later) == GONE.format(1)


def test_a_worker_that_fails_while_the_other_node_lives_is_told_after_the_grace(fail, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(multi_node, "GRACE_SECONDS", 0.5)
    assert fail("record 7: image: no such file", 2, stay) == "record 7: image: no such file"


def test_the_workers_of_another_node_that_fail_as_a_consequence_are_not_told(fail, patient: None):
    assert fail("train failed: ValueError: shapes do not match", 1, end_with(1)) == (
        "train failed: ValueError: shapes do not match"
    )


@pytest.mark.parametrize(
    ("line", "status", "work", "killed"),
    [
        (MISSED, 1, end_with(247), "node 1 was killed by SIGKILL"),
        ("", 247, end_with(1, MISSED), "node 0 was killed by SIGKILL"),
    ],
)
def test_killed_workers_are_told_beside_the_line_of_those_that_missed_them(
    fail, patient: None, line: str, status: int, work: Work, killed: str
):
    assert fail(line, status, work) == f"{MISSED}; {killed}"


@pytest.fixture
def three_nodes() -> Iterator[tuple[OtherNodes, dict[int, socket.socket]]]:
    """Node 0's connections to nodes 1 and 2, and the other ends of these."""
    with ExitStack() as stack:
        pairs = {rank: [stack.enter_context(end) for end in socket.socketpair()] for rank in (1, 2)}
        connections = {rank: Connection(pair[0], b"token", is_node_0=True) for rank, pair in pairs.items()}
        yield OtherNodes(Node(3, 0, "127.0.0.1", 0), connections), {rank: pair[1] for rank, pair in pairs.items()}


def test_a_node_that_is_gone_is_told_instead_of_another_whose_workers_missed_it_first(
    three_nodes: tuple[OtherNodes, dict[int, socket.socket]], patient: None, tmp_path: Path
):
    other_nodes, ends = three_nodes
    other_nodes.start_stage("train", tmp_path)
    Connection(ends[1], b"token", is_node_0=False).send(status=1)
    assert other_nodes.failure() == "node 1 ended with status 1; see its own output"
    closing = threading.Timer(0.5, ends[2].close)
    closing.start()
    assert other_nodes.wait() == GONE.format(2)
    closing.join()
