"""recipe=fast: each switch, and all together, computes what recipe=paper computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.composing import composed
from training.test_loop import curve, worker

from vrx.config.schema import EngineConfig, LoraConfig
from vrx.data.batch import TrainingSample, collate
from vrx.data.image_processing import Pixels
from vrx.models import loading, lora
from vrx.training import activation_checkpointing, engine, fast_path, flops, fused_lora, loss, packing

TRAINED = ("train.max_steps=4", "train.global_batch_size=8", "train.micro_batch_size=4", "train.warmup_ratio=0")
PLAIN = ("engine.name=torch", *TRAINED, "train.lr=1e-4", "train.projector_lr=2e-5")  # about the paper's
SWITCHES = {
    "packed": "engine.packed=true",
    "supervised_head": "engine.supervised_head=true",
    "skip_vision_tower": "engine.skip_vision_tower=true",
    "fused_lora": "engine.fused_lora=true",
    "checkpointing": "train.gradient_checkpointing=null",
}


def tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    found = [load_file(path) for path in sorted((run_dir / "adapter").glob("*.safetensors"))]
    return {name: tensor for state in found for name, tensor in state.items()}


def agree(one: Path, other: Path) -> None:
    """The same loss at every step and the same adapter in the end, to 1e-5."""
    assert curve(one) == pytest.approx(curve(other), abs=1e-5)
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys() and len(ours) == 2 * 7 * 8 + 4
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0, msg=name)


@pytest.fixture(scope="module")
def paper(world, tmp_path_factory) -> Path:
    """A run of the paper's recipe, dropout off."""
    return trained(world, tmp_path_factory.mktemp("paper"), "lora.dropout=0", "train.gradient_checkpointing=true")


def trained(world: Path, folder: Path, *overrides: str) -> Path:
    small = ["world.num_images=48", "world.num_questions=6", "wandb.mode=disabled"]
    return worker(composed([*small, f"runtime.output_root={world}", *PLAIN, *overrides]), folder / "run")


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_changes_no_number(switch, paper, world, tmp_path):
    agree(trained(world, tmp_path, "lora.dropout=0", switch), paper)


def test_all_switches_together_change_no_number(paper, world, tmp_path):
    fast = trained(world, tmp_path, "lora.dropout=0", *SWITCHES.values())
    agree(fast, paper)
    how = json.loads((fast / "train.json").read_text())["execution"]
    assert how["gradient_checkpointing"] == "none" and how["packed"] and how["off"] == {}


@pytest.mark.parametrize("switch", ["supervised_head", "checkpointing"])
def test_with_dropout_too_where_its_random_numbers_are_the_same(switch, world, tmp_path):
    plain = trained(world, tmp_path / "plain")
    agree(trained(world, tmp_path / "switched", SWITCHES[switch]), plain)


@pytest.mark.filterwarnings("ignore")  # the compiler looks at what warns when it is looked at
def test_compiled_layers_change_no_number(paper, world, tmp_path):
    if fast_path.compile_error():
        pytest.skip("no compiler here")
    options = ("lora.dropout=0", "engine.packed=true", "engine.fused_lora=true", "engine.compile=always")
    agree(trained(world, tmp_path, *options), paper)


def test_the_fast_recipe_counts_the_same_operations(paper, world, tmp_path):
    fast = trained(world, tmp_path, "lora.dropout=0", *SWITCHES.values())
    told = [json.loads((run / "train.json").read_text()) for run in (paper, fast)]
    assert told[0]["flops"] == told[1]["flops"] > 0
    assert all(0 < one["mfu"] < 1 for one in told)
    assert all(0 <= one["seconds_waiting_for_data"] <= one["seconds"] for one in told)


@pytest.fixture
def decoder(make_run):
    """The embedded LVLM with adapters that do something, dropout on, and inputs of a Linear."""
    lvlm = loading.load(make_run().model)
    lora.apply_lora(lvlm, [3], LoraConfig(r=4, alpha=8, dropout=0.25))
    torch.manual_seed(1)
    for name, tensor in lora.trainable_parameters(lvlm).items():
        if "lora_B" in name:
            tensor.data.normal_(std=0.1)
    return loading.decoder_layers(lvlm)[3].train()


def test_a_fused_adapter_is_pefts_with_the_same_mask(decoder, monkeypatch):
    linear = decoder.mlp.up_proj
    x = torch.randn(2, 5, 64, requires_grad=True)
    keep = torch.rand(2, 5, 64) > 0.25
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, training, inplace=False: x * keep / (1 - p))
    upper = torch.randn(2, 5, linear.out_features)
    wanted = [x, linear.lora_A["default"].weight, linear.lora_B["default"].weight]
    plain = linear(x)
    grads = torch.autograd.grad(plain, wanted, upper)
    assert fused_lora.fuse(decoder) == 7
    monkeypatch.setattr(fused_lora, "keep_mask", lambda x, dropout: keep)
    fused = linear(x)
    torch.testing.assert_close(fused, plain)
    for ours, theirs in zip(torch.autograd.grad(fused, wanted, upper), grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_fused_adapters_gradients_are_those_of_small_differences(decoder):
    torch.manual_seed(0)
    x, w, a, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 6), (5, 6), (2, 6), (5, 2)))
    keep = torch.rand(3, 6) > 0.3
    inputs = [tensor.requires_grad_() for tensor in (x, a, b)]

    def run(x, a, b):
        return fused_lora.AdaptedLinear.apply(x, w, None, a, b, 1.5, keep, 0.3)

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("dropout", [0.05, 0.5])
def test_a_mask_keeps_its_share_and_differs_each_time(dropout):
    torch.manual_seed(0)
    masks = [fused_lora.keep_mask(torch.empty(1001, 33), dropout) for _ in range(2)]
    assert masks[0].shape == (1001, 33) and not torch.equal(*masks)
    for mask in masks:
        spread = (dropout * (1 - dropout) / mask.numel()) ** 0.5
        assert abs(1 - mask.float().mean().item() - dropout) < 5 * spread
        for lane in range(4):  # of the 64 random bits: none is special
            assert abs(1 - mask.flatten()[lane::4].float().mean().item() - dropout) < 10 * spread


def test_out_of_training_a_fused_adapter_drops_nothing(decoder):
    x = torch.randn(1, 3, 64)
    plain = decoder.eval().mlp.up_proj(x)
    fused_lora.fuse(decoder)
    torch.testing.assert_close(decoder.mlp.up_proj(x), plain)


@pytest.mark.parametrize("lengths", [[4, 1, 7], [4, 4, 4], [12]])
@pytest.mark.parametrize("window", [None, 3, 100])
def test_packed_samples_attend_as_if_each_were_alone(window, lengths):
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    query, key, value = (torch.randn(1, heads, 12, 8) for heads in (4, 2, 2))
    packed, _ = packing.attend(module, query, key, value, None, sample_lengths=lengths, sliding_window=window)
    first = 0
    for length in lengths:
        place = slice(first, first + length)
        q, k, v = query[0, :, place], *(x[0, :, place].repeat_interleave(2, 0) for x in (key, value))
        near = torch.ones(length, length).tril().triu(-(window or length) + 1).bool()
        weights = (q @ k.mT / 8**0.5).masked_fill(~near, -torch.inf).softmax(-1)
        torch.testing.assert_close(packed[0, place], (weights @ v).transpose(0, 1))
        first += length


def test_in_a_row_no_sample_tells_the_first_token_of_the_next():
    samples = [
        TrainingSample([5, 6, 7], [5, 6, 7]),
        TrainingSample([8, 9], [8, 9], bad_images=["x"]),
    ]
    row = collate(samples, pad_token_id=0, packed=True)
    padded = collate(samples, pad_token_id=0)
    assert row.input_ids.tolist() == [[5, 6, 7, 8, 9]] and row.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert row.labels.tolist() == [[-100, 6, 7, -100, 9]] and row.sample_lengths == [3, 2]
    assert loss.num_supervised(row) == loss.num_supervised(padded) == 3
    assert row.bad_images == padded.bad_images == ["x"]


def test_the_head_in_many_chunks_is_the_head_in_one(make_run, monkeypatch):
    run = make_run()
    lvlm = loading.load(run.model)
    module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank(), EngineConfig(zero_stage=2, supervised_head=True))
    torch.manual_seed(0)
    states = torch.randn(50, 64, requires_grad=True)
    wanted = torch.randint(0, 100, (50,)).masked_fill(torch.rand(50) > 0.5, -100)
    plain = torch.nn.functional.cross_entropy(lvlm.lm_head(states), wanted, reduction="sum")
    module.chunk = 7
    chunked = module.nll_sum(states, wanted)
    torch.testing.assert_close(chunked, plain)
    torch.testing.assert_close(torch.autograd.grad(chunked, states), torch.autograd.grad(plain, states))
    nothing = module.nll_sum(states, torch.full((50,), -100))
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, states)[0].any()


def test_the_probe_steps_down_to_what_fits(make_run):
    run = make_run("engine.name=torch")
    lvlm = loading.load(run.model)
    lora.apply_lora(lvlm, range(32), run.lora)
    module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
    batch = {"input_ids": torch.randint(50, 100, (4, 40)), "labels": torch.randint(50, 100, (4, 40)), "pixels": None}

    def forward():
        module(**batch, attention_mask=torch.ones(4, 40))

    kept = {}
    for way in activation_checkpointing.Mode:
        activation_checkpointing.set_mode(lvlm, way)
        kept[way] = activation_checkpointing.saved_bytes(lvlm, forward)
    assert kept["none"] > 1.5 * kept["half"] > 2 * kept["full"] > 0
    for way in activation_checkpointing.Mode:
        assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=1.05 * kept[way]) == way
    assert activation_checkpointing.set_lightest_mode(lvlm, forward, budget=0) == "full"


def test_what_frozen_linears_are_given_is_not_kept(make_run):
    """Their weights have no gradients: of a layer without adapter less is kept than of one with."""
    run = make_run()

    def kept(layers):
        lvlm = loading.load(run.model)
        lora.apply_lora(lvlm, layers, run.lora)
        module = loss.LvlmWithLoss(lvlm, Pixels(run.model).blank()).train()
        ids = torch.randint(50, 100, (4, 40))
        return activation_checkpointing.saved_bytes(lvlm, lambda: module(ids, ids, torch.ones(4, 40)))

    assert kept([0]) < 0.6 * kept(range(32))


def test_at_zero_3_switches_that_reach_into_modules_are_off_and_say_why():
    wanted = EngineConfig(zero_stage=3, packed=True, fused_lora=True, compile="always", skip_vision_tower=True)
    decided, off = fast_path.decide(wanted, weight_bytes=1.0, total_flops=1e30)
    assert decided == dataclasses.replace(wanted, fused_lora=None, compile=None)
    assert set(off) == {"fused_lora", "compile"} and all("ZeRO-3" in reason for reason in off.values())


@pytest.mark.parametrize(
    ("weight_bytes", "processes", "name", "stage"),
    [(1e6, 1, "torch", 0), (1e6, 2, "deepspeed", 2), (1e15, 1, "deepspeed", 3), (None, 2, "deepspeed", 3)],
)
def test_weights_that_do_not_fit_are_shared_out(weight_bytes, processes, name, stage, monkeypatch):
    monkeypatch.setattr(fast_path, "world_size", lambda: processes)
    decided, _ = fast_path.decide(EngineConfig(zero_stage=None), weight_bytes=weight_bytes, total_flops=0)
    assert (decided.name, decided.zero_stage) == (name, stage)


def test_in_half_precision_steps_too_small_for_it_add_up(make_run):
    """As with DeepSpeed, the optimizer has the weights in full; resumed, it goes on from those."""
    run = make_run("engine.name=torch", "train.dtype=bfloat16", "train.global_batch_size=2", "train.micro_batch_size=1")

    def started() -> engine.Engine:
        linear = torch.nn.Linear(4, 1, bias=False).bfloat16()
        linear.weight.data.fill_(1.0)
        return engine.create(linear, [{"params": [linear.weight], "lr": 1e-3}], run.train, run.engine)

    def steps(runner: engine.Engine, number: int) -> None:
        for _ in range(2 * number):  # micro-batches
            runner.backward(runner(torch.ones(1, 4, dtype=torch.bfloat16)).sum())

    whole, first, second = started(), started(), started()
    steps(whole, 8)
    assert whole.module.weight.float().sub(1 - 8e-3).abs().max() < 2**-8  # bfloat16 has steps of 2 ** -8 below 1
    assert not torch.equal(whole.module.weight, torch.ones(1, 4).bfloat16())
    steps(first, 5)
    second.load_optimizer_state(first.optimizer_state())
    steps(second, 3)
    assert torch.equal(second.module.weight, whole.module.weight)
    assert torch.equal(second.optimizer_state()["0.master"], whole.optimizer_state()["0.master"])


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


def test_operations_are_those_that_torch_counts(make_run):
    """Forward and backward of all decoder layers and the head, against torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    from vrx.training.setup import add_adapters

    run = make_run("lora.dropout=0", "engine.name=torch")
    prepared = add_adapters(loading.load(run.model), range(32), run, blank=Pixels(run.model).blank())
    height, width = prepared.module.blank.shape[-2:]
    ids = torch.randint(50, 100, (3, 40))
    ids[:, 3:12] = prepared.lvlm.config.image_token_id
    batch = {"input_ids": ids, "labels": ids, "pixels": torch.randn(3, 3, height, width)}
    batch |= {"attention_mask": torch.ones(3, 40)}
    with FlopCounterMode(display=False) as counter:
        prepared.module(**batch).backward()
    load = flops.Workload(tokens=120, squared_lengths=3 * 40**2, supervised_tokens=3 * 39, images=3)
    assert prepared.flops_counter(num_layers=32, lora=run.lora)(load) == pytest.approx(
        counter.get_total_flops(), rel=0.1
    )
