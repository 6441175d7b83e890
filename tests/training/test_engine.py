"""Engines: updates in half precision, gradient norms, optimizers."""

from __future__ import annotations

import sys

import pytest
import torch

from vrx.config.errors import UserError
from vrx.config.validate import validate
from vrx.runs.identity import finetune_identity
from vrx.training import engine, optimizer_state
from vrx.training.deepspeed_engine import start_deepspeed


def test_updates_too_small_for_half_precision_add_up(make_run):
    """The optimizer keeps fp32 master weights, as DeepSpeed's does, and a resume restores them."""
    run = make_run("engine.name=torch", "train.dtype=bfloat16", "train.global_batch_size=2", "train.micro_batch_size=1")

    def started() -> engine.Engine:
        linear = torch.nn.Linear(4, 1, bias=False).bfloat16()
        linear.weight.data.fill_(1.0)
        return engine.create(linear, [{"params": [linear.weight], "lr": 1e-3}], run.train, run.engine)

    def steps(runner: engine.Engine, number: int) -> None:
        for _ in range(2 * number):  # micro-batches
            runner.backward(runner(torch.ones(1, 4, dtype=torch.bfloat16)).sum())

    straight, first, second = started(), started(), started()
    steps(straight, 8)
    assert straight.module.weight.float().sub(1 - 8e-3).abs().max() < 2**-8  # bfloat16 has steps of 2 ** -8 below 1
    assert not torch.equal(straight.module.weight, torch.ones(1, 4).bfloat16())
    steps(first, 5)
    second.load_optimizer_state(first.optimizer_state())
    steps(second, 3)
    assert torch.equal(second.module.weight, straight.module.weight)
    assert torch.equal(second.optimizer_state()["weight.master"], straight.optimizer_state()["weight.master"])


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_the_gradient_norm_is_that_of_the_whole_global_batch_before_clipping(make_run, max_norm):
    run = make_run(
        "engine.name=torch",
        "train.global_batch_size=4",
        "train.micro_batch_size=2",
        f"train.max_grad_norm={max_norm}",
    )
    linear = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(linear.weight)
    inputs = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], [[4.0, 0.0, 2.0], [1.0, 1.0, 1.0]]])
    gradients = torch.autograd.grad(sum(linear(x).square().sum() / 2 for x in inputs), list(linear.parameters()))
    runner = engine.create(linear, [{"params": list(linear.parameters()), "lr": 1e-3}], run.train, run.engine)
    assert runner.grad_norm is None
    for x in inputs:
        runner.backward(runner(x).square().sum())
    expected = sum(gradient.square().sum() for gradient in gradients) ** 0.5
    assert runner.grad_norm == pytest.approx(expected.item(), rel=1e-6)


def test_8_bit_adamw_without_bitsandbytes_is_a_one_line_error(make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    run = make_run("engine.name=torch", "train.optimizer=adamw_8bit")
    linear = torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"^train\.optimizer=adamw_8bit: bitsandbytes is not installed[^\n]*$"):
        engine.create(linear, [{"params": list(linear.parameters()), "lr": 1e-3}], run.train, run.engine)


def test_8_bit_adamw_resumes_to_the_same_bits(make_run):
    pytest.importorskip("bitsandbytes")
    batch = ("train.global_batch_size=1", "train.micro_batch_size=1")
    run = make_run("engine.name=torch", "train.optimizer=adamw_8bit", *batch)
    inputs = torch.randn(6, 4, 128, generator=torch.Generator().manual_seed(0))

    def started() -> engine.Engine:
        linear = torch.nn.Linear(128, 64)
        torch.nn.init.constant_(linear.weight, 0.1)
        torch.nn.init.zeros_(linear.bias)
        return engine.create(linear, [{"params": list(linear.parameters()), "lr": 1e-3}], run.train, run.engine)

    straight, first, resumed = started(), started(), started()
    for number, x in enumerate(inputs):
        straight.backward(straight(x).square().mean())
        if number == 3:
            resumed.load_optimizer_state(first.optimizer_state())
        runner = first if number < 3 else resumed
        runner.backward(runner(x).square().mean())
    assert torch.equal(resumed.module.weight, straight.module.weight)
    assert torch.equal(resumed.module.bias, straight.module.bias)


def test_another_release_of_deepspeed_is_refused(monkeypatch):
    import deepspeed

    monkeypatch.setattr(deepspeed, "__version__", "0.20.1")
    with pytest.raises(UserError, match=r"^deepspeed 0\.20\.1: vrx supports 0\.19; run `pip install"):
        start_deepspeed()


def test_integers_of_an_optimizers_state_survive_a_checkpoint():
    """bitsandbytes holds its step as a Python integer."""
    weight = torch.nn.Parameter(torch.ones(2))
    first, second = (torch.optim.SGD([weight], lr=1.0) for _ in range(2))
    first.state[weight] = {"step": 3, "state1": torch.tensor([1, 2], dtype=torch.uint8)}
    optimizer_state.load_state_by_ranks(second, [weight], optimizer_state.state_by_ranks(first, [weight]))
    assert second.state[weight]["step"] == 3 and type(second.state[weight]["step"]) is int
    assert second.state[weight]["state1"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("override", "key"), [("train.optimizer=sgd", "train.optimizer"), ("train.scheduler=step", "train.scheduler")]
)
def test_unknown_optimizers_and_schedulers_are_refused_by_name(make_run, override, key):
    with pytest.raises(UserError, match=rf"^{key}=.*valid are"):
        validate(make_run(override))


def test_defaults_of_new_options_leave_the_run_what_it_was(make_run):
    identity = finetune_identity(make_run(), [0, 4], "digest")["train"]
    assert not identity.keys() & {"optimizer", "scheduler", "tf32"}
    assert finetune_identity(make_run("train.scheduler=linear"), [0, 4], "digest")["train"]["scheduler"] == "linear"
