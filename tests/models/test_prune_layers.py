"""Pruning removes the chosen layers and changes nothing else; a saved model loads without our code."""

from __future__ import annotations

import json

import pytest
import torch
from support.small_models import (
    DEPTH,
    IMAGE,
    asked,
    logits,
    same,
    small_backbone,
    small_batch,
    small_lvlm,
    small_tokenizer,
    snapshot,
)
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from vrx.config.schema import LoraConfig
from vrx.models import surgery
from vrx.models.lora import apply_lora
from vrx.models.lvlm import decoder_layers


@pytest.fixture(params=["llava", "llama", "phi3", "qwen2"])
def model(request):
    return small_lvlm() if request.param == "llava" else small_backbone(request.param)


def seen(model):
    return logits(model, image=isinstance(model, LlavaForConditionalGeneration))


def layers_of(model):
    return decoder_layers(model) if isinstance(model, LlavaForConditionalGeneration) else model.model.layers


def test_pruning_nothing_changes_nothing(model):
    before, told, expected = snapshot(model), model.config.to_dict(), seen(model)
    surgery.prune_layers(model, ())
    assert same(snapshot(model), before)
    assert model.config.to_dict() == told
    assert torch.equal(seen(model), expected)


class Identity(nn.Module):
    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states


@pytest.mark.parametrize("layers", [(0,), (3,), (2, 1), (0, 1, 3)])
def test_pruning_a_layer_is_replacing_it_by_the_identity(model, layers):
    whole = seen(model)
    kept = [layer for layer in range(DEPTH) if layer not in layers]
    originals = list(layers_of(model))
    for layer in layers:
        layers_of(model)[layer] = Identity()
    expected = seen(model)
    assert not torch.equal(expected, whole)
    for layer in layers:
        layers_of(model)[layer] = originals[layer]

    surgery.prune_layers(model, layers)
    assert torch.equal(seen(model), expected)
    assert [id(layer) for layer in layers_of(model)] == [id(originals[layer]) for layer in kept]
    assert [layer.self_attn.layer_idx for layer in layers_of(model)] == list(range(len(kept)))
    assert model.config.get_text_config().num_hidden_layers == len(kept)


def test_lists_of_the_configuration_that_tell_of_layers_are_cut_too():
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = small_backbone("qwen2", layer_types=kinds, sliding_window=4, use_sliding_window=True, max_window_layers=1)
    surgery.prune_layers(model, (1, 2))
    assert model.config.layer_types == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [(), (0,), (1, 2)])
def test_a_pruned_model_generates_the_same_with_and_without_cache(model, layers):
    surgery.prune_layers(model, layers)
    if isinstance(model, LlavaForConditionalGeneration):
        inputs = asked(small_batch(pad="left"))
    else:
        inputs = {"input_ids": torch.arange(2, 12).reshape(2, 5), "attention_mask": torch.ones(2, 5).long()}
    told = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [IMAGE]}
    made = [model.generate(**inputs, **told, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*made)
    assert made[0].shape[1] == inputs["input_ids"].shape[1] + 12
    assert len(made[0][:, -12:].unique()) > 3  # no stutter that any cache would reproduce


def test_pruning_in_two_cuts_is_pruning_in_one():
    one, two = small_lvlm(), small_lvlm()
    surgery.prune_layers(one, (0, 2))
    surgery.prune_layers(two, (2,))
    surgery.prune_layers(two, (0,))
    assert same(snapshot(one), snapshot(two))
    assert one.config.to_dict() == two.config.to_dict()


def test_the_vision_tower_keeps_its_layers():
    model = small_lvlm()
    surgery.prune_layers(model, (1,))
    assert model.config.vision_config.num_hidden_layers == DEPTH
    assert sum("vision_tower" in name and "layer_norm1.weight" in name for name, _ in model.named_parameters()) == DEPTH


def test_a_model_without_layers_or_with_adapters_is_not_made():
    with pytest.raises(ValueError, match="all 4 decoder layers to be pruned: at least one has to stay"):
        surgery.prune_layers(small_lvlm(), range(DEPTH))
    model = small_lvlm()
    apply_lora(model, (1,), LoraConfig(r=2))
    with pytest.raises(ValueError, match="merge them before pruning"):
        surgery.prune_layers(model, (0,))
    with pytest.raises(TypeError, match="Linear: valid are LlavaForConditionalGeneration and decoder-only backbones"):
        surgery.prune_layers(nn.Linear(1, 1), (0,))


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_loads_without_us_and_says_the_same_bit_for_bit(model, tied, tmp_path):
    if tied:
        model = type(model)(model.config)  # fresh, with the head tied to the embeddings
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = True
        model.tie_weights()
        model.eval()
    surgery.prune_layers(model, (1, 2))
    folder = tmp_path / "outputs" / "pruned"
    folder.mkdir(parents=True)
    (folder / "stale").touch()
    surgery.save_pruned(model, small_tokenizer(), folder, "Decoder layers 1 and 2 of 4 were cut.")
    loader = AutoModelForImageTextToText if isinstance(model, LlavaForConditionalGeneration) else AutoModelForCausalLM
    again, told = loader.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    assert type(again) is type(model)
    assert torch.equal(seen(again.eval()), seen(model))
    config = json.loads((folder / "config.json").read_text())
    assert config.get("text_config", config)["num_hidden_layers"] == 2
    assert PreTrainedTokenizerFast.from_pretrained(folder)("w5 w6")["input_ids"] == [5, 6]
    assert [path.name for path in folder.parent.iterdir()] == ["pruned"]
    assert not (folder / "stale").exists()


def test_the_model_card_says_what_was_cut(tmp_path):
    model = small_lvlm()
    surgery.prune_layers(model, (3,))
    surgery.save_pruned(model, small_tokenizer(), tmp_path / "tiny-3", "Decoder layer 3 of 4 was cut.")
    card = (tmp_path / "tiny-3" / "README.md").read_text()
    assert "# tiny-3\n\nDecoder layer 3 of 4 was cut.\n\n3 decoder layers remain" in card
    assert "LlavaForConditionalGeneration.from_pretrained" in card
