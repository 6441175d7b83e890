"""This machine's rank among the nodes of a run: from the configuration or from SLURM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.config.schema import RuntimeConfig
from vrx.launch.node import Node, this_node
from vrx.launch.workers import num_processes

SLURM_STEP = {
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1",
    "SLURM_JOB_ID": "20007",
    "SLURM_STEP_NODELIST": "n[1-2]",
}


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def scontrol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A script in place of SLURM's `scontrol`, and the environment of the second task of a step on two nodes."""
    script = tmp_path / "scontrol"
    script.write_text('#!/bin/sh\n[ "$2 $3" = "hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in SLURM_STEP.items():
        monkeypatch.setenv(name, value)
    return script


def test_a_single_machine_is_node_0_of_one():
    assert this_node(RuntimeConfig()) == Node(num_nodes=1, rank=0)


def test_processes_are_counted_on_all_nodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runtime = RuntimeConfig(cpu_processes=3, num_nodes=4, node_rank=0, rendezvous="127.0.0.1:1")
    assert num_processes(runtime) == 12


def test_slurm_determines_rank_host_and_port(scontrol: Path):
    assert this_node(RuntimeConfig()) == Node(2, 1, "n1", 20007)


def test_the_network_address_of_a_slurm_node_is_preferred_to_its_name(scontrol: Path):
    with scontrol.open("a") as file:
        file.write('[ "$2 $3" = "node n1" ] && echo "   NodeAddr=10.0.0.1 NodeHostName=n1"\n')
    assert this_node(RuntimeConfig()) == Node(2, 1, "10.0.0.1", 20007)


def test_a_rank_without_a_number_of_machines_is_one_of_slurms_or_refused(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch
):
    assert this_node(RuntimeConfig(node_rank=0)) == Node(2, 0, "n1", 20007)
    monkeypatch.delenv("SLURM_STEP_NUM_NODES")
    with pytest.raises(UserError, match=r"^runtime\.node_rank=1: this run has one machine; .* runtime\.num_nodes$"):
        this_node(RuntimeConfig(node_rank=1))


def test_the_configuration_overrides_slurm(scontrol: Path):
    runtime = RuntimeConfig(num_nodes=2, node_rank=0, rendezvous="elsewhere:5")
    assert this_node(runtime) == Node(2, 0, "elsewhere", 5)


def test_several_slurm_tasks_on_a_node_are_refused(scontrol: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(UserError, match="8 tasks on 2 nodes: valid is one task per node"):
        this_node(RuntimeConfig())


@pytest.mark.parametrize(
    "options", [{"num_nodes": 2}, {"num_nodes": 2, "node_rank": 0}, {"num_nodes": 2, "node_rank": 2}]
)
def test_incomplete_or_impossible_settings_are_refused(options: dict[str, int]):
    with pytest.raises(UserError, match=r"^runtime.num_nodes=2: needs runtime.node_rank, 0 to 1, and runtime.rendez"):
        this_node(RuntimeConfig(**options))
