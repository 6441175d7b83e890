"""Whole runs in several processes and on several nodes: the numbers of one process, killed or not, and one record."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.forked import forked_command
from support.ports import free_port
from support.processes import started
from support.training import assert_same_course
from support.whole_runs import ENVIRONMENT, ZERO, adapter, command, curve, has_steps, kill_at, run_dir, stop_at

from vrx.launch.preemption import RESUME

pytestmark = pytest.mark.slow
ON_NODES = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}


def test_zero3_on_one_and_on_two_ranks_agrees_with_plain_torch(undisturbed: Path, two_ranks: Path, vrx, tmp_path: Path):
    result = vrx(*ZERO)
    assert result.returncode == 0, result.stderr
    for root in (tmp_path, two_ranks):
        assert_same_course(run_dir(root), run_dir(undisturbed))
        assert trainable_parameters(root) == trainable_parameters(undisturbed) > 0


def trainable_parameters(root: Path) -> int:
    return json.loads((run_dir(root) / "train.json").read_text())["trainable_parameters"]


def test_a_killed_run_of_two_ranks_ends_bit_equal(two_ranks: Path, vrx, tmp_path: Path):
    overrides = (*ZERO, "runtime.cpu_processes=2")
    kill_at(tmp_path, overrides, has_steps(3))
    result = vrx(*overrides)
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(two_ranks))


def test_a_signal_to_all_processes_of_two_ranks_makes_them_write_a_checkpoint(
    two_ranks: Path, vrx, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    overrides = (*ZERO, "runtime.cpu_processes=2")
    rare = (*overrides, "runtime.checkpoint_every=100")
    assert stop_at(tmp_path, rare, has_steps(2), whole_group=True) == RESUME
    assert "Traceback" not in capfd.readouterr().err
    steps = [int(folder.name.removeprefix("step-")) for folder in (run_dir(tmp_path) / "checkpoint").iterdir()]
    assert steps == [len(curve(run_dir(tmp_path)))]
    result = vrx(*overrides)
    assert result.returncode == 0, result.stderr
    assert f"resuming from step {steps[0]}" in result.stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(two_ranks))


def test_a_run_that_goes_on_with_one_rank_and_then_with_two_again_has_the_same_curve(
    two_ranks: Path, vrx, tmp_path: Path
):
    for processes, steps in ((2, 1), (1, 3)):
        assert stop_at(tmp_path, (*ZERO, f"runtime.cpu_processes={processes}"), has_steps(steps)) == RESUME
    result = vrx(*ZERO, "runtime.cpu_processes=2")
    assert result.returncode == 0, result.stderr
    assert "with other processes 1 -> 2" in result.stderr
    assert curve(run_dir(tmp_path)) == pytest.approx(curve(run_dir(two_ranks)), abs=1e-6)
    assert_same_course(run_dir(tmp_path), run_dir(two_ranks))


def test_a_run_under_zero2_that_is_killed_on_two_ranks_goes_on_with_one(vrx, tmp_path: Path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    overrides = (*ZERO, "eval.limit=1", "engine.zero_stage=2")
    assert vrx(*overrides, cwd=undisturbed).returncode == 0
    kill_at(killed, (*overrides, "runtime.cpu_processes=2"), has_steps(3))
    result = vrx(*overrides, cwd=killed)
    assert result.returncode == 0, result.stderr
    assert "with other processes 2 -> 1" in result.stderr
    assert curve(run_dir(killed)) == pytest.approx(curve(run_dir(undisturbed)), abs=1e-6)
    assert_same_course(run_dir(killed), run_dir(undisturbed))


# ---- nodes


def started_node(
    root: Path, rank: int, port: int, *more: str, forked: bool = False
) -> AbstractContextManager[subprocess.Popen[str]]:
    options = ("runtime.num_nodes=2", f"runtime.node_rank={rank}", f"runtime.rendezvous=127.0.0.1:{port}")
    asked = command(*ZERO, *options, *more)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return started(forked_command(asked) if forked else asked, cwd=root, env=ON_NODES, **pipes)


def run_two_nodes(root: Path, port: int, *more: str) -> list[tuple[str, str]]:
    """Run node 0 and node 1 to their successful end; returns stdout and stderr of each, by rank."""
    nodes = [started_node(root, rank, port, *more, forked=True) for rank in (0, 1)]
    with nodes[0] as node_0, nodes[1] as node_1:
        outputs = [process.communicate(timeout=900) for process in (node_0, node_1)]
    assert [node_0.returncode, node_1.returncode] == [0, 0], outputs
    return outputs


def tokens(root: Path) -> list[Path]:
    """The token files in a directory, complete or partial."""
    return list((root / "outputs").glob("*.node-token-*"))


def test_two_nodes_train_like_two_processes_and_leave_one_record(two_ranks: Path, tmp_path: Path):
    port = free_port()
    (stdout, _), (stdout_of_node_1, _) = run_two_nodes(tmp_path, port)
    assert "record: " in stdout
    assert stdout_of_node_1 == ""
    assert tokens(tmp_path) == []
    on_nodes, on_ranks = run_dir(tmp_path), run_dir(two_ranks)
    assert curve(on_nodes) == curve(on_ranks)
    assert adapter(on_nodes) == adapter(on_ranks)
    scores = [json.loads((folder / "record.json").read_text())["scores"] for folder in (on_nodes, on_ranks)]
    assert scores[0] == scores[1]
    (_, stderr), _ = run_two_nodes(tmp_path, port)
    assert "nothing to do" in stderr


def test_a_killed_node_ends_the_run_and_the_same_command_resumes_it(two_ranks: Path, tmp_path: Path):
    port = free_port()
    with started_node(tmp_path, 1, port) as node_1, started_node(tmp_path, 0, port) as node_0:
        while not has_steps(3)(tmp_path):  # the checkpoint of step 2 is written
            assert node_0.poll() is None
            time.sleep(0.02)
        node_1.kill()
        stderr = node_0.communicate(timeout=300)[1]
    assert node_0.returncode == 2
    assert "node 1 is gone; run the same command to resume" in stderr
    (_, stderr), _ = run_two_nodes(tmp_path, port)
    assert "resuming from step" in stderr
    assert adapter(run_dir(tmp_path)) == adapter(run_dir(two_ranks))


def test_a_killed_node_0_leaves_a_token_that_the_next_run_replaces(tmp_path: Path):
    port = free_port()
    short = ("train.max_steps=1", "eval.limit=1")
    with started_node(tmp_path, 0, port, *short) as node_0:
        while not tokens(tmp_path):
            assert node_0.poll() is None
            time.sleep(0.02)
        node_0.kill()
    assert len(tokens(tmp_path)) == 1
    run_two_nodes(tmp_path, port, *short)
    assert tokens(tmp_path) == []
