"""Reverting gives the chosen layers the backbone's weights and changes nothing else."""

from __future__ import annotations

import pytest
import torch
from support.small_models import (
    DEPTH,
    logits,
    same,
    small_backbone,
    small_lvlm,
    snapshot,
)

from vrx.models import surgery
from vrx.models.lvlm import decoder_layers


@pytest.mark.parametrize("layers", [(), (0,), (1, 3), range(DEPTH)])
def test_reverting_to_the_own_state_changes_nothing(layers):
    model = small_lvlm()
    before = snapshot(model)
    surgery.revert_layers(model, before, layers)
    assert same(snapshot(model), before)


def test_reverting_no_layers_changes_nothing():
    model = small_lvlm()
    before = snapshot(model)
    surgery.revert_layers(model, small_backbone(seed=1).state_dict(), ())
    assert same(snapshot(model), before)


@pytest.mark.parametrize("layers", [(0,), (1, 3)])
def test_reverting_moves_the_chosen_layers_and_nothing_else(layers):
    model, backbone = small_lvlm(), small_backbone(seed=1)
    before = snapshot(model)
    surgery.revert_layers(model, backbone.state_dict(), layers)
    for layer, (ours, theirs) in enumerate(zip(decoder_layers(model), backbone.model.layers, strict=True)):
        assert same(ours.state_dict(), theirs.state_dict()) == (layer in layers)
    moved = {name for name, tensor in snapshot(model).items() if not torch.equal(tensor, before[name])}
    assert all(any(name.startswith(f"model.language_model.layers.{layer}.") for layer in layers) for name in moved)
    surgery.revert_layers(model, before, layers)  # an LVLM's own state undoes it
    assert same(snapshot(model), before)


@pytest.mark.parametrize("text", ["llama", "phi3"])
def test_lvlm_with_all_layers_reverted_gives_the_backbones_logits(text):
    backbone, model = small_backbone(text, seed=1), small_lvlm(text)
    core = model.model.language_model
    core.embed_tokens, core.norm, model.lm_head = backbone.model.embed_tokens, backbone.model.norm, backbone.lm_head
    assert not torch.equal(logits(model, image=False), logits(backbone, image=False))
    surgery.revert_layers(model, backbone.state_dict(), range(DEPTH))
    assert torch.equal(logits(model, image=False), logits(backbone, image=False))


def test_weights_of_another_dtype_are_rounded_to_the_models():
    model, backbone = small_lvlm(), small_backbone(seed=1).bfloat16()
    surgery.revert_layers(model, backbone.state_dict(), (2,))
    assert model.dtype == torch.float32
    expected = {name: tensor.float() for name, tensor in backbone.model.layers[2].state_dict().items()}
    assert same(decoder_layers(model)[2].state_dict(), expected)


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        ("llama", {"num_hidden_layers": 5}, "the backbone has 5 decoder layers, the model has 4"),
        ("llama", {"intermediate_size": 40}, r"layer 0: mlp\.\w+\.weight is \(.*48.*\), in the backbone \(.*40.*\)"),
        ("phi3", {}, r"layer 0: .*'mlp.gate_proj.weight'.*, only the backbone \['mlp.gate_up_proj.weight'"),
    ],
)
def test_mismatched_backbone_is_refused_and_the_model_unchanged(text, changed, message):
    model = small_lvlm()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        surgery.revert_layers(model, small_backbone(text, **changed).state_dict(), (0,))
    assert same(snapshot(model), before)


def test_state_without_decoder_layers_is_refused():
    with pytest.raises(ValueError, match=r"no decoder layers among 1 tensors, the first ones \['weight'\]"):
        surgery.revert_layers(small_lvlm(), {"weight": torch.zeros(1)}, (0,))


@pytest.mark.parametrize("layers", [(4,), (-1,), (1, 1)])
@pytest.mark.parametrize("change", [surgery.prune_layers, lambda m, layers: surgery.revert_layers(m, {}, layers)])
def test_layers_that_do_not_exist_are_refused(change, layers):
    with pytest.raises(ValueError, match="valid are distinct layers among 0 to 3"):
        change(small_lvlm(), layers)
