"""lora.target_modules, use_rslora, use_dora and init have the meaning of PEFT's options."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from torch import nn

from vrx.config.schema import LoraConfig
from vrx.models import from_run, loading, lora, lora_checkpoint
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.lvlm import DECODER
from vrx.models.merged_state_dict import MergedStateDict
from vrx.runs.identity import finetune_identity

LAYERS = (0, 12, 31)
OPTIONS = {
    "target_modules": LoraConfig(r=4, alpha=8, target_modules=["q_proj", "mlp.down_proj"]),
    "use_rslora": LoraConfig(r=4, alpha=8, use_rslora=True),
    "use_dora": LoraConfig(r=4, alpha=8, use_dora=True),
    "gaussian": LoraConfig(r=4, alpha=8, init="gaussian"),
    "all": LoraConfig(r=4, alpha=8, target_modules=["v_proj"], use_rslora=True, use_dora=True, init="gaussian"),
}


def adapted_modules(model: nn.Module) -> set[str]:
    names = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    return {name.partition(f"{DECODER}layers.")[2] for name in names}


def trained(make_run, config: LoraConfig):
    """An LVLM whose adapters differ from their initial weights, and its trained tensors."""
    tuned = lora.apply_lora(loading.load(make_run().model), LAYERS, config)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: tensor.detach() + 0.02 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in lora.trainable_parameters(tuned).items()
    }
    tuned.load_state_dict(state, strict=False)
    return tuned.eval(), state


@torch.inference_mode()
def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=torch.arange(60, 100).reshape(2, 20)).logits


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj", "v_proj"], {"self_attn.q_proj", "self_attn.v_proj"}),
        (["mlp.up_proj"], {"mlp.up_proj"}),
        (["proj"], None),
        (["q_proj", "fc1", "qkv"], None),
        ([], None),
    ],
)
def test_target_modules_are_suffixes_and_unmatched_ones_are_refused_by_name(make_run, targets, expected):
    lvlm, config = loading.load(make_run().model), LoraConfig(r=4, target_modules=targets)
    if expected is None:
        unmatched = ", ".join(target for target in targets if target != "q_proj") or "empty"
        with pytest.raises(
            ValueError, match=rf"lora.target_modules=.*: {unmatched}; the decoder layers have down_proj"
        ):
            lora.apply_lora(lvlm, LAYERS, config)
    else:
        tuned = lora.apply_lora(lvlm, LAYERS, config)
        assert adapted_modules(tuned) == {f"{layer}.{name}" for layer in LAYERS for name in expected}


@pytest.mark.parametrize("init", ["pissa", "olora", "eva", "false", "orthogonal"])
def test_initializations_that_change_the_base_or_are_not_paired_are_refused(make_run, init):
    with pytest.raises(ValueError, match=f"lora.init={init}: valid are true and gaussian"):
        lora.apply_lora(loading.load(make_run().model), LAYERS, LoraConfig(r=4, init=init))


@pytest.mark.parametrize("option", OPTIONS)
def test_initial_adapters_have_no_effect_and_do_not_depend_on_other_tuned_layers(make_run, option):
    lvlm, config = loading.load(make_run().model), OPTIONS[option]
    base_logits = logits(lvlm)
    few = lora.apply_lora(lvlm, (12,), config)
    torch.testing.assert_close(logits(few.eval()), base_logits, atol=1e-4, rtol=0)
    many = lora.apply_lora(loading.load(make_run().model), range(32), config).state_dict()
    start = {name: tensor for name, tensor in few.state_dict().items() if "lora_" in name}
    assert start and all(torch.equal(tensor, many[name]) for name, tensor in start.items())


def test_gaussian_adapters_have_pefts_standard_deviation(make_run):
    tuned = lora.apply_lora(loading.load(make_run().model), range(32), LoraConfig(r=4, init="gaussian"))
    values = torch.cat([tensor.flatten() for name, tensor in tuned.named_parameters() if "lora_A" in name])
    assert values.std().item() == pytest.approx(1 / 4, rel=0.01)
    assert values.mean().item() == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("option", OPTIONS)
def test_saved_adapter_loads_with_plain_peft_and_merges(make_run, tmp_path, option):
    tuned, state = trained(make_run, OPTIONS[option])
    expected = logits(tuned)
    lora_checkpoint.save_adapter(tuned, state, tmp_path)
    plain = peft.PeftModel.from_pretrained(loading.load(make_run().model), str(tmp_path))
    torch.testing.assert_close(logits(plain.eval()), expected, atol=0, rtol=0)
    merged = from_run.load_adapter(loading.load(make_run().model), tmp_path)
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("option", OPTIONS)
def test_weights_merged_on_disk_equal_those_merged_by_peft(make_run, tmp_path, option):
    tuned, state = trained(make_run, OPTIONS[option])
    lora_checkpoint.save_adapter(tuned, state, tmp_path)
    backbone = from_run.load_backbone(make_run().model)
    assert isinstance(backbone, LazyStateDict)
    on_disk = MergedStateDict(backbone, tmp_path)
    by_peft = tuned.merge_and_unload().model.language_model.state_dict()
    for name in on_disk:
        if ".layers." in name:
            torch.testing.assert_close(on_disk[name], by_peft[name.removeprefix("model.")], atol=1e-6, rtol=1e-5)


def test_dora_trains_a_magnitude_vector_per_adapted_module(make_run, tmp_path):
    config = LoraConfig(r=4, target_modules=["k_proj"], use_dora=True)
    tuned, state = trained(make_run, config)
    magnitudes = [name for name in state if "magnitude" in name]
    assert len(magnitudes) == len(LAYERS)
    lora_checkpoint.save_adapter(tuned, state, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_dora"] is True
    (tmp_path / "adapter_config.json").write_text(
        (tmp_path / "adapter_config.json").read_text().replace('"use_dora": true', '"use_dora": false')
    )
    with pytest.raises(ValueError, match="incomplete adapter"):
        lora_checkpoint.Adapter(tmp_path)


@pytest.mark.parametrize("option", ["target_modules=[q_proj]", "use_rslora=true", "use_dora=true", "init=gaussian"])
def test_option_is_part_of_the_identity_only_if_it_is_set(make_run, option):
    plain, other = (finetune_identity(make_run(*options), [0], "digest") for options in ([], [f"lora.{option}"]))
    assert plain["lora"].keys() == {"r", "alpha", "dropout"}
    assert other["lora"].keys() - plain["lora"].keys() == {option.partition("=")[0]}
