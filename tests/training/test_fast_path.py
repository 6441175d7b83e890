"""recipe=fast: each switch, and all together, computes what recipe=paper computes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.composing import composed
from support.training import assert_same_gradients, gradients, train_here
from support.whole_runs import SMALL, curve
from torch import Tensor

from vrx.config.schema import EngineConfig
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary
from vrx.training import fast_path

STEPS = ("train.max_steps=4", "train.global_batch_size=8", "train.micro_batch_size=4", "train.warmup_ratio=0")
PLAIN = ("engine.name=torch", *STEPS, "train.lr=1e-4", "train.projector_lr=2e-5")  # about the paper's
NO_DROPOUT = "lora.dropout=0"
SWITCHES = {
    "packed": "engine.packed=true",
    "supervised_head": "engine.supervised_head=true",
    "skip_vision_tower": "engine.skip_vision_tower=true",
    "fused_lora": "engine.fused_lora=true",
    "checkpointing": "train.gradient_checkpointing=null",
}


@dataclass
class Trained:
    """A finished training and the gradients of its first batch."""

    folder: Path
    gradients: dict[str, Tensor]


def trained(world: Path, folder: Path, *overrides: str) -> Trained:
    run = composed([*SMALL, f"runtime.output_root={world}", *PLAIN, *overrides])
    return Trained(train_here(run, folder / "run"), gradients(run, folder / "gradients"))


def assert_agree(ours: Trained, theirs: Trained) -> None:
    """The same loss at every step to 1e-5, the same gradients to 1e-4 of their norm."""
    assert curve(ours.folder) == pytest.approx(curve(theirs.folder), abs=1e-5)
    assert len(ours.gradients) == 2 * 7 * 8 + 4
    assert_same_gradients(ours.gradients, theirs.gradients)


@pytest.fixture(scope="module")
def paper(world, tmp_path_factory) -> Trained:
    """A run of the paper's recipe, dropout off."""
    return trained(world, tmp_path_factory.mktemp("paper"), NO_DROPOUT, "train.gradient_checkpointing=true")


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_changes_no_number(switch, paper, world, tmp_path):
    assert_agree(trained(world, tmp_path, NO_DROPOUT, switch), paper)


def test_all_switches_together_change_no_number_and_count_the_same_flops(paper, world, tmp_path):
    fast = trained(world, tmp_path, NO_DROPOUT, *SWITCHES.values())
    assert_agree(fast, paper)
    summaries = [read_train_summary(RunDir(run.folder).train_summary) for run in (paper, fast)]
    assert summaries[0].flops == summaries[1].flops and summaries[0].flops
    execution = summaries[1].execution
    assert execution and execution["gradient_checkpointing"] == "none" and execution["packed"]
    assert execution["off"] == {}


@pytest.mark.parametrize("switch", ["supervised_head", "checkpointing"])
def test_with_dropout_too_switches_with_the_same_random_numbers_change_nothing(switch, world, tmp_path):
    plain, switched = tmp_path / "plain", tmp_path / "switched"
    for folder in (plain, switched):
        folder.mkdir()
    assert_agree(trained(world, switched, SWITCHES[switch]), trained(world, plain))


@pytest.mark.filterwarnings("ignore")  # torch's compiler inspects objects whose attributes warn
def test_compiled_layers_change_no_number(paper, world, tmp_path):
    if fast_path.compile_error():
        pytest.skip("torch.compile does not work on this machine")
    options = (NO_DROPOUT, "engine.packed=true", "engine.fused_lora=true", "engine.compile=always")
    assert_agree(trained(world, tmp_path, *options), paper)


def test_switches_that_zero_3_does_not_allow_are_off_for_a_reason():
    wanted = EngineConfig(zero_stage=3, packed=True, fused_lora=True, compile="always", skip_vision_tower=True)
    decided, off = fast_path.decide(wanted, weight_bytes=1.0, total_flops=1e30)
    assert decided == dataclasses.replace(wanted, fused_lora=None, compile=None)
    assert set(off) == {"fused_lora", "compile"} and all("ZeRO-3" in reason for reason in off.values())


@pytest.mark.parametrize(
    ("weight_bytes", "processes", "name", "stage"),
    [(1e6, 1, "torch", 0), (1e6, 2, "deepspeed", 2), (1e15, 1, "deepspeed", 3), (None, 2, "deepspeed", 3)],
)
def test_the_engine_follows_the_size_of_the_weights_and_the_number_of_processes(
    weight_bytes, processes, name, stage, monkeypatch
):
    monkeypatch.setattr(fast_path, "world_size", lambda: processes)
    decided, _ = fast_path.decide(EngineConfig(zero_stage=None), weight_bytes=weight_bytes, total_flops=0)
    assert (decided.name, decided.zero_stage) == (name, stage)


def test_dora_turns_fused_adapters_off_and_says_why():
    decided, off = fast_path.decide(EngineConfig(fused_lora=True), weight_bytes=1.0, total_flops=0, use_dora=True)
    assert decided.fused_lora is None and "lora.use_dora=true" in off["fused_lora"]


def test_a_short_run_is_not_compiled():
    decided, off = fast_path.decide(EngineConfig(zero_stage=2, compile="auto"), weight_bytes=1.0, total_flops=1e9)
    assert decided.compile is None and "too short" in off["compile"]


def test_without_a_compiler_layers_are_not_compiled(monkeypatch):
    monkeypatch.setattr(fast_path, "compile_error", lambda: "no C++ compiler")
    decided, off = fast_path.decide(EngineConfig(zero_stage=2, compile="always"), weight_bytes=1.0, total_flops=1e30)
    assert decided.compile is None and off["compile"] == "no C++ compiler"
