"""Several nodes: one record, the numbers of one machine with as many processes, and no node left waiting."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from vrx.config import errors
from vrx.config.schema import RuntimeConfig
from vrx.launch import multi_node
from vrx.launch.workers import num_processes

SLURM = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "20007"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


# ---- who is which node


def test_one_machine_is_its_own_node():
    assert multi_node.this_node(RuntimeConfig()) == multi_node.Node()


def test_processes_are_counted_on_all_nodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runtime = RuntimeConfig(cpu_processes=3, num_nodes=4, node_rank=0, rendezvous="127.0.0.1:1")
    assert num_processes(runtime) == 12


def test_slurm_says_which_node_this_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tool = tmp_path / "scontrol"  # SLURM's, which is not everywhere
    tool.write_text('#!/bin/sh\n[ "$2 $3" = "hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in {**SLURM, "SLURM_STEP_NODELIST": "n[1-2]"}.items():
        monkeypatch.setenv(name, value)
    assert multi_node.this_node(RuntimeConfig()) == multi_node.Node(2, 1, "n1", 20007)
    with tool.open("a") as file:  # as of a cluster whose nodes' names are not those of the network
        file.write('[ "$2 $3" = "node n1" ] && echo "   NodeAddr=10.0.0.1 NodeHostName=n1"\n')
    assert multi_node.this_node(RuntimeConfig()) == multi_node.Node(2, 1, "10.0.0.1", 20007)
    given = RuntimeConfig(num_nodes=2, node_rank=0, rendezvous="elsewhere:5")
    assert multi_node.this_node(given) == multi_node.Node(2, 0, "elsewhere", 5)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(ValueError, match="8 tasks on 2 nodes: valid is one a node"):
        multi_node.this_node(RuntimeConfig())


@pytest.mark.parametrize(
    "given", [{"num_nodes": 2}, {"num_nodes": 2, "node_rank": 0}, {"num_nodes": 2, "node_rank": 2}]
)
def test_a_place_that_is_not_told_is_refused(given: dict[str, int]):
    with pytest.raises(ValueError, match=r"^runtime.num_nodes=2: needs runtime.node_rank, 0 to 1, and runtime.rendez"):
        multi_node.this_node(RuntimeConfig(**given))


# ---- meeting


def meet(second: dict[str, object], work, inside) -> list[BaseException]:
    """Node 0 doing `inside` and a node that says `second`, each in a thread; gives what node 1 ended with."""
    first = {"node": 0, "processes": 1, "command": "c"}
    here, ended = multi_node.Node(2, 0, "127.0.0.1", free_port()), []

    def join() -> None:
        try:
            multi_node.join_node_0(multi_node.Node(2, 1, here.host, here.port), second, work)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=join)
    thread.start()
    try:
        with multi_node.gather_nodes(here, first, lambda line: None):
            inside(multi_node.peers())
    finally:
        thread.join(timeout=30)
    assert not thread.is_alive() and multi_node.peers() is None
    return ended


HELLO = {"node": 1, "processes": 1, "command": "c"}


def test_the_other_node_does_what_node_0_tells_and_ends_with_it():
    done: list[tuple] = []

    def inside(peers: multi_node.Peers) -> None:
        for stage in ("train", "generate"):
            port = peers.call(stage, "run")
            assert peers.wait() is None and done[-1] == (stage, "run", port)

    assert meet(HELLO, lambda *told: done.append(told[:3]) or 0, inside) == []


def test_a_node_that_fails_is_named():
    def inside(peers: multi_node.Peers) -> None:
        peers.call("train", "run")
        assert peers.wait() == "node 1 of the run ended with status 3; see its own lines"

    assert meet(HELLO, lambda *told: 3, inside) == []


def test_where_node_0_fails_the_others_end_too():
    def inside(peers: multi_node.Peers) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        meet(HELLO, lambda *told: 0, inside)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"node": 0}, "runtime.node_rank=0: is taken"),
        ({"processes": 2}, "2 processes here, 1 on node 0"),
        ({"command": "d"}, "not the command of node 0"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, told: dict[str, object], why: str):
    monkeypatch.setattr(multi_node, "TIMEOUT_SECONDS", 1.0)
    with pytest.raises(errors.RunFailed, match="1 of 2 nodes came"):
        assert str(meet({**HELLO, **told}, lambda *told: 0, lambda peers: None)[0]).startswith(why)
