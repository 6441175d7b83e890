"""Layers of one checkpoint of transformers' own class: cut, put back, tuned, saved and loaded again."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from support.families import LAYERS, move, slow_families
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.schema import LoraConfig
from vrx.models import from_run, lora, lora_checkpoint, native, surgery
from vrx.models.lora_checkpoint import merge_adapter
from vrx.models.lvlm import decoder_layers, layers_path
from vrx.models.projector_weights import load_connector, save_connector
from vrx.training.native_loss import forget_positions

FAMILIES = slow_families(fast=("qwen3_vl",))
OUTPUT = re.compile(
    r"(o_proj|down_proj|out_proj|per_layer_projection)\.weight|.*(attn_gate|mlp_gate)"
)  # ends of a layer


@torch.inference_mode()
def logits(family, model) -> Tensor:
    batch = family.collate([family.sample(0)])
    forget_positions(model)
    return model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.tensors, use_cache=False
    ).logits


def without_effect(model, layer: int) -> None:
    """Let a decoder layer add nothing to its input."""
    for name, parameter in decoder_layers(model)[layer].named_parameters():
        if OUTPUT.search(name):
            parameter.data.zero_()


def cuttable_layers(family) -> list[int]:
    """The first and the last layer of each kind that can be cut."""
    kinds, pinned = family.row.kinds(family.loaded.config), family.row.pinned(family.loaded.config)
    free = {kind: [n for n, other in enumerate(kinds) if other == kind and n not in pinned] for kind in set(kinds)}
    return sorted({layer for layers in free.values() if layers for layer in (layers[0], layers[-1])})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_layer_without_effect_can_be_cut(tiny_family, name, tmp_path):
    family = tiny_family(name)
    for layer in cuttable_layers(family):
        model = family.model()
        without_effect(model, layer)
        before = logits(family, model)
        surgery.prune_layers(model, (layer,), family.row)
        after = logits(family, model)
        assert (after - before).abs().max() < 1e-4, f"layer {layer}"
        model.save_pretrained(tmp_path / str(layer))
        again = native.load_folder(tmp_path / str(layer), family.row, dtype=torch.float32, config=family.config)
        assert (logits(family, again) - after).abs().max() < 1e-5, f"layer {layer}"


@pytest.mark.parametrize("name", ["qwen3_vl", pytest.param("gemma4", marks=pytest.mark.slow)])
def test_layers_that_others_depend_on_cannot_be_cut(tiny_family, name):
    family = tiny_family(name)
    (layer, *_) = sorted(family.row.pinned(family.loaded.config))
    model = family.model()
    with pytest.raises(UserError, match=rf"layers \[{layer}\] of .*: what other layers compute depends on them"):
        surgery.prune_layers(model, (layer,), family.row)
    without_effect(model, layer)
    before = logits(family, model)
    surgery.prune_layers(model, (layer,))  # as if the row did not say so
    try:
        moved = (logits(family, model) - before).abs().max()
    except (KeyError, RuntimeError):  # keys and values that nobody left, inputs of another number of layers
        return
    assert moved > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_adapter_and_connector_are_saved_under_their_full_names(tiny_family, name, tmp_path):
    family = tiny_family(name)
    model = family.model()
    tuned = lora.apply_lora(model, LAYERS, LoraConfig(r=4, alpha=8, dropout=0.0), beside=family.row.connector)
    move(lora.trainable_parameters(tuned))
    trained = {key: parameter.detach() for key, parameter in lora.trainable_parameters(tuned).items()}
    lora_checkpoint.save_adapter(tuned, trained, tmp_path, save_beside=save_connector)
    expected = logits(family, model.eval())
    again = family.model()
    merge_adapter(again, tmp_path, is_native=True)
    load_connector(again, tmp_path)
    assert (logits(family, again) - expected).abs().max() < 1e-3
    assert (logits(family, family.loaded) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_a_reversion_restores_every_bit(tiny_family, name):
    family = tiny_family(name)
    model = family.model()
    move({key: parameter for key, parameter in model.named_parameters() if layers_path(model) in key})
    tuned = copy.deepcopy(model.state_dict())
    base = from_run.load_backbone(family.config)
    with surgery.reverted(model, base, LAYERS):
        state = model.state_dict()
        reverted = {key for key, tensor in state.items() if not torch.equal(tensor, tuned[key])}
        assert (
            reverted
            == {key for key, _ in model.named_parameters() if re.match(rf"{layers_path(model)}\.(1|5)\.", key)}
            & base.keys()
        )
        assert all(torch.equal(state[key], base[key]) for key in reverted)
    assert all(torch.equal(tensor, tuned[key]) for key, tensor in model.state_dict().items())
