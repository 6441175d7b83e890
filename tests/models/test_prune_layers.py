"""Pruning removes the chosen layers and changes nothing else; a saved model loads without our code."""

from __future__ import annotations

import json

import pytest
import torch
from support.small_models import (
    DEPTH,
    IMAGE,
    forward_inputs,
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


def logits_of(model):
    return logits(model, image=isinstance(model, LlavaForConditionalGeneration))


def layers_of(model):
    return decoder_layers(model) if isinstance(model, LlavaForConditionalGeneration) else model.model.layers


def test_pruning_nothing_changes_nothing(model):
    before, config, expected = snapshot(model), model.config.to_dict(), logits_of(model)
    surgery.prune_layers(model, ())
    assert same(snapshot(model), before)
    assert model.config.to_dict() == config
    assert torch.equal(logits_of(model), expected)


class Identity(nn.Module):
    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states


@pytest.mark.parametrize("layers", [(0,), (3,), (2, 1), (0, 1, 3)])
def test_pruning_equals_replacing_layers_by_the_identity(model, layers):
    unpruned = logits_of(model)
    remaining = [layer for layer in range(DEPTH) if layer not in layers]
    originals = list(layers_of(model))
    for layer in layers:
        layers_of(model)[layer] = Identity()
    expected = logits_of(model)
    assert not torch.equal(expected, unpruned)
    for layer in layers:
        layers_of(model)[layer] = originals[layer]

    surgery.prune_layers(model, layers)
    assert torch.equal(logits_of(model), expected)
    assert [id(layer) for layer in layers_of(model)] == [id(originals[layer]) for layer in remaining]
    assert [layer.self_attn.layer_idx for layer in layers_of(model)] == list(range(len(remaining)))
    assert model.config.get_text_config().num_hidden_layers == len(remaining)


def test_per_layer_lists_of_the_configuration_are_pruned():
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = small_backbone("qwen2", layer_types=kinds, sliding_window=4, use_sliding_window=True, max_window_layers=1)
    surgery.prune_layers(model, (1, 2))
    assert model.config.layer_types == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [(), (0,), (1, 2)])
def test_pruned_model_generates_the_same_with_and_without_cache(model, layers):
    surgery.prune_layers(model, layers)
    if isinstance(model, LlavaForConditionalGeneration):
        inputs = forward_inputs(small_batch(pad="left"))
    else:
        inputs = {"input_ids": torch.arange(2, 12).reshape(2, 5), "attention_mask": torch.ones(2, 5).long()}
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "suppress_tokens": [IMAGE]}
    outputs = [model.generate(**inputs, **options, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*outputs)
    assert outputs[0].shape[1] == inputs["input_ids"].shape[1] + 12
    assert len(outputs[0][:, -12:].unique()) > 3  # not a repetition that any cache would reproduce


def test_pruning_in_two_steps_equals_pruning_in_one():
    at_once, in_steps = small_lvlm(), small_lvlm()
    surgery.prune_layers(at_once, (0, 2))
    surgery.prune_layers(in_steps, (2,))
    surgery.prune_layers(in_steps, (0,))
    assert same(snapshot(at_once), snapshot(in_steps))
    assert at_once.config.to_dict() == in_steps.config.to_dict()


def test_the_vision_tower_keeps_its_layers():
    model = small_lvlm()
    surgery.prune_layers(model, (1,))
    assert model.config.vision_config.num_hidden_layers == DEPTH
    assert sum("vision_tower" in name and "layer_norm1.weight" in name for name, _ in model.named_parameters()) == DEPTH


def test_pruning_all_layers_or_unmerged_adapters_is_refused():
    with pytest.raises(ValueError, match="cannot prune all 4 decoder layers: at least one must remain"):
        surgery.prune_layers(small_lvlm(), range(DEPTH))
    model = small_lvlm()
    apply_lora(model, (1,), LoraConfig(r=2))
    with pytest.raises(ValueError, match="merge them before pruning"):
        surgery.prune_layers(model, (0,))
    with pytest.raises(TypeError, match="Linear: valid are LVLMs and decoder-only backbones"):
        surgery.prune_layers(nn.Linear(1, 1), (0,))


@pytest.mark.parametrize("tied", [False, True])
def test_saved_model_loads_with_transformers_alone_and_gives_the_same_logits(model, tied, tmp_path):
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
    loaded, loading_info = loader.from_pretrained(folder, output_loading_info=True)
    assert not any(loading_info.values()), loading_info
    assert type(loaded) is type(model)
    assert torch.equal(logits_of(loaded.eval()), logits_of(model))
    config = json.loads((folder / "config.json").read_text())
    assert config.get("text_config", config)["num_hidden_layers"] == 2
    assert PreTrainedTokenizerFast.from_pretrained(folder)("w5 w6")["input_ids"] == [5, 6]
    assert [path.name for path in folder.parent.iterdir()] == ["pruned"]
    assert not (folder / "stale").exists()


def test_model_card_names_the_pruned_layers(tmp_path):
    model = small_lvlm()
    surgery.prune_layers(model, (3,))
    surgery.save_pruned(model, small_tokenizer(), tmp_path / "tiny-3", "Decoder layer 3 of 4 was cut.")
    card = (tmp_path / "tiny-3" / "README.md").read_text()
    assert "# tiny-3\n\nDecoder layer 3 of 4 was cut.\n\n3 decoder layers remain" in card
    assert "LlavaForConditionalGeneration.from_pretrained" in card
