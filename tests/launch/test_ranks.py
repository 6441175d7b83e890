"""Whole runs in several processes and on several nodes: the numbers of one process, killed or not, and one record."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from launch.test_multi_node import free_port
from support.training import assert_same_course
from support.whole_runs import ENVIRONMENT, ZERO, adapter, command, curve, has_steps, kill_at, run_dir

pytestmark = pytest.mark.slow


def test_zero3_on_one_rank_and_two_agrees_with_plain_torch(undisturbed: Path, two_ranks: Path, vrx, tmp_path: Path):
    told = vrx(*ZERO)
    assert told.returncode == 0, told.stderr
    for root in (tmp_path, two_ranks):
        assert_same_course(run_dir(root), run_dir(undisturbed))


def test_a_killed_run_of_two_ranks_ends_bit_equal(two_ranks: Path, vrx, tmp_path: Path):
    overrides = (*ZERO, "runtime.cpu_processes=2")
    kill_at(tmp_path, overrides, has_steps(3))
    told = vrx(*overrides)
    assert told.returncode == 0 and "resuming from step" in told.stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(two_ranks))


def test_a_killed_run_under_zero2_ends_bit_equal(vrx, tmp_path: Path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    overrides = (*ZERO, "eval.limit=1", "engine.zero_stage=2")
    assert vrx(*overrides, cwd=straight).returncode == 0
    kill_at(killed, overrides, has_steps(3))
    told = vrx(*overrides, cwd=killed)
    assert told.returncode == 0 and "resuming from step" in told.stderr
    assert adapter(run_dir(killed)) == adapter(run_dir(straight))


# ---- nodes


def start(root: Path, node: int, port: int) -> subprocess.Popen[str]:
    options = ("runtime.num_nodes=2", f"runtime.node_rank={node}", f"runtime.rendezvous=127.0.0.1:{port}")
    environment = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command(*ZERO, *options), cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_nodes_train_as_one_with_two_processes_and_leave_one_record(two_ranks: Path, tmp_path: Path):
    port = free_port()
    both = [start(tmp_path, 1, port), start(tmp_path, 0, port)]
    ended = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert "record: " in ended[1][0] and ended[0][0] == ""
    ours, one = run_dir(tmp_path), run_dir(two_ranks)
    assert curve(ours) == curve(one) and adapter(ours) == adapter(one)
    scores = [json.loads((folder / "record.json").read_text())["scores"] for folder in (ours, one)]
    assert scores[0] == scores[1]
    again = [start(tmp_path, 1, port), start(tmp_path, 0, port)]
    ended = [process.communicate(timeout=300) for process in again]
    assert [process.returncode for process in again] == [0, 0] and "nothing to do" in ended[1][1]


def test_a_node_that_is_killed_ends_the_run_at_once_and_the_same_command_goes_on(two_ranks: Path, tmp_path: Path):
    port = free_port()
    other, first = start(tmp_path, 1, port), start(tmp_path, 0, port)
    while not has_steps(3)(tmp_path):  # a checkpoint lies there, of step 2
        assert first.poll() is None
    other.kill()
    told = first.communicate(timeout=300)[1]
    assert first.returncode == 2 and [line for line in told.splitlines() if "node 1 of the run is gone" in line]
    other.communicate()
    both = [start(tmp_path, 1, port), start(tmp_path, 0, port)]
    ended = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0] and "resuming from step" in ended[1][1]
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(two_ranks))
