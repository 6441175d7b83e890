"""Stopping and resuming in one process: signals, threads, lost logs, optimizer state of whole parameters."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from support.composing import composed
from support.training import SHORT, train_here
from support.whole_runs import SMALL, adapter, curve, rows

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.launch import preemption
from vrx.models import lora_checkpoint
from vrx.runs import checkpoint_files
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary
from vrx.training import checkpoint, loop, optimizer_state, stage
from vrx.training.engine import Engine
from vrx.training.optimizer_state import Fragment

OPTIONS = (*SHORT, "train.micro_batch_size=4", "runtime.checkpoint_every=1")


@pytest.fixture(scope="module")
def run(world: Path) -> RunConfig:
    return composed([*SMALL, f"runtime.output_root={world}", *OPTIONS])


@pytest.fixture(scope="module")
def straight(run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run came to its end undisturbed."""
    return train_here(run, tmp_path_factory.mktemp("straight") / "run")


def stopped_by(number: signal.Signals, run: RunConfig, run_dir: Path, *, at: int = 1) -> Path:
    """A run of four steps that got this signal during one of them, from 0, or while it saved its result (4)."""
    before = {number: signal.getsignal(number) for number in preemption.SIGNALS}

    def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
        if step == at:
            os.kill(os.getpid(), number)
        original(seed, step, micro_batch)

    def save_adapter(*arguments: Any, **options: Any) -> None:
        if at == 4:
            os.kill(os.getpid(), number)
        save(*arguments, **options)

    original, save = loop.seed_dropout, lora_checkpoint.save_adapter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preemption._State, "signal", None)
        patch.setattr(loop, "seed_dropout", seed_dropout)
        patch.setattr(lora_checkpoint, "save_adapter", save_adapter)
        preemption.install()
        with pytest.raises(preemption.Preempted, match=f"^stopped by {number.name}; run the same command to resume$"):
            train_here(run, run_dir)
    for number, handler in before.items():
        signal.signal(number, handler)
    return run_dir


@pytest.fixture(scope="module")
def stopped(run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_by(signal.SIGUSR1, run, tmp_path_factory.mktemp("stopped") / "run")


def test_a_signal_makes_a_checkpoint_after_the_present_step(run, straight, tmp_path: Path):
    often = dataclasses.replace(run, runtime=dataclasses.replace(run.runtime, checkpoint_every=100))
    run_dir = stopped_by(signal.SIGTERM, often, tmp_path / "run")
    assert [path.name for path in checkpoint_files.folders(run_dir)] == ["step-2"]
    assert [row["step"] for row in rows(run_dir)] == [0, 1]
    train_here(run, run_dir)
    assert adapter(run_dir) == adapter(straight) and curve(run_dir) == curve(straight)
    assert not RunDir(run_dir).checkpoints.exists()


@pytest.mark.parametrize("at", [3, 4], ids=["last step", "saving"])
def test_a_signal_after_the_last_checkpoint_waits_for_the_result(run, straight, tmp_path: Path, at: int):
    run_dir = stopped_by(signal.SIGTERM, run, tmp_path / "run", at=at)
    assert adapter(run_dir) == adapter(straight) and curve(run_dir) == curve(straight)
    assert read_train_summary(RunDir(run_dir).train_summary).steps == 4
    assert not RunDir(run_dir).checkpoints.exists()


def test_a_run_that_goes_on_elsewhere_keeps_its_threads_and_log_and_records_the_machine(
    run, stopped, straight, tmp_path: Path, capsys
):
    run_dir = Path(shutil.copytree(stopped, tmp_path / "run"))
    RunDir(run_dir).train_log.unlink()
    folder, _ = checkpoint_files.folders(run_dir)
    position, threads = checkpoint_files.read_position(folder), torch.get_num_threads()
    assert [entry["threads"] for entry in position.executions] == [threads]
    position.executions[0]["machine"] = "another"
    checkpoint_files.write_position(folder, position)
    try:
        torch.set_num_threads(threads + 1)
        train_here(run, run_dir)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)
    assert adapter(run_dir) == adapter(straight) and curve(run_dir) == curve(straight)
    messages = capsys.readouterr().err
    assert f"with {threads} threads, as before" in messages and "with other machine another -> " in messages
    summaries = [read_train_summary(RunDir(folder).train_summary) for folder in (run_dir, straight)]
    executions = [summary.execution or {} for summary in summaries]
    assert [entry["step"] for entry in executions[0]["resumes"]] == [2] and "resumes" not in executions[1]
    assert [summary.steps for summary in summaries] == [4, 4]
    assert summaries[0].result == summaries[1].result and len(summaries[0].result or {}) >= 3


@pytest.mark.parametrize("step", [4, 99])
def test_a_position_beyond_the_training_is_refused(stopped, tmp_path: Path, step: int):
    folder = Path(shutil.copytree(checkpoint_files.folders(stopped)[0], tmp_path / "checkpoint" / f"step-{step}"))
    position = checkpoint_files.read_position(checkpoint_files.folders(stopped)[0])
    checkpoint_files.write_position(folder, dataclasses.replace(position, step=step))
    with pytest.raises(UserError, match=rf"step {step} of a training of 4 steps; delete"):
        stage.resume(cast(Engine, None), checkpoint.latest(tmp_path), tmp_path, num_steps=4)


def test_a_checkpoint_of_an_earlier_version_is_resumed(run, straight, tmp_path: Path, monkeypatch):
    """It has its rank's tensors by number, no log and no digests."""
    with monkeypatch.context() as patch:
        patch.setattr("vrx.training.optimizer_state.is_resharded", lambda optimizer: False)
        run_dir = stopped_by(signal.SIGUSR2, run, tmp_path / "run")
    folder = checkpoint_files.folders(run_dir)[0]
    (folder / "position.json").write_text(json.dumps({"step": 2, "processes": 1}))
    (folder / checkpoint_files.LOG).unlink()
    train_here(run, run_dir)
    assert adapter(run_dir) == adapter(straight) and curve(run_dir) == curve(straight)


def test_the_state_of_a_parameter_that_two_ranks_share_is_restored_from_its_whole():
    """Rank 1 of two has the last 3 of 5 values, padded by one, behind 2 values of another parameter."""
    flat = torch.nn.Parameter(torch.zeros(6))
    optimizer = torch.optim.AdamW([flat])
    fragments = [
        Fragment("a", torch.Size([2]), flat, 0, 0, 2),
        Fragment("b", torch.Size([5]), flat, 2, 2, 3),
        Fragment("c", torch.Size([7]), flat, 0, 0, 0),  # on the other rank
    ]
    state = {
        f"{name}.{key}": torch.arange(size) + start
        for key, start in (("master", 10.0), ("exp_avg", 20.0), ("exp_avg_sq", 30.0))
        for name, size in (("a", 2), ("b", 5), ("c", 7))
    } | {f"{name}.step": torch.tensor(4.0) for name in "abc"}
    optimizer_state.load_state_of_parameters(optimizer, fragments, state)
    assert flat.tolist() == [10, 11, 12, 13, 14, 0]
    assert optimizer.state[flat]["exp_avg"].tolist() == [20, 21, 22, 23, 24, 0]
    assert optimizer.state[flat]["exp_avg_sq"].tolist() == [30, 31, 32, 33, 34, 0]
    assert optimizer.state[flat]["step"] == 4
    for change in ({"d.master": torch.zeros(1)}, {"b.master": torch.zeros(4)}):
        with pytest.raises(UserError, match=r"^checkpoint: "):
            optimizer_state.load_state_of_parameters(optimizer, fragments, state | change)
    del state["b.exp_avg"]
    with pytest.raises(UserError, match=r"^checkpoint: lacks the tensor b\.exp_avg$"):
        optimizer_state.load_state_of_parameters(optimizer, fragments, state)
