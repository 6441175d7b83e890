"""Checkpoints in every known layout load to the same LVLM; others are refused in one line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.layouts import (
    FAMILY,
    OTHER_LAYOUTS,
    bunny_state,
    config_of,
    load,
    official_config,
    original,
    refused,
    renamed,
    same,
    write,
)
from support.official import FAMILIES, model_config
from transformers import AutoImageProcessor, AutoProcessor, LlavaForConditionalGeneration

from vrx.config.schema import LoraConfig
from vrx.data.instructions import encoding
from vrx.models import checkpoint_layouts, loading, lora, lora_checkpoint, surgery
from vrx.models.plain_processor import plain_processor


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_every_layout_loads_the_same_weights(layout, tmp_path):
    state = {renamed(name, OTHER_LAYOUTS[layout]): tensor for name, tensor in original().state_dict().items()}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)  # old checkpoints hold such a buffer
    assert same(load(write(tmp_path / "lvlm", state, config_of(layout))), original())


def test_names_in_memory_keep_their_names():
    for name in original().state_dict():
        assert checkpoint_layouts.memory_name(name) == name


def test_saved_checkpoint_loads_as_with_transformers(tmp_path):
    lvlm = loading.load(model_config(FAMILY, FAMILIES[FAMILY]["lvlm"]))
    surgery.prune_layers(lvlm, [1, 4])
    tokenizer = loading.load_model_tokenizer(model_config(FAMILY, None))
    surgery.save_pruned(lvlm, tokenizer, tmp_path / "pruned", "Two layers.")
    config = dataclasses.replace(model_config(FAMILY, None), lvlm=str(tmp_path / "pruned"), num_layers=4)
    ours = loading.load(config)
    assert same(ours, lvlm) and same(ours, LlavaForConditionalGeneration.from_pretrained(tmp_path / "pruned"))
    assert loading.load_model_tokenizer(config)("What?")["input_ids"] == tokenizer("What?")["input_ids"]


def test_a_checkpoint_that_was_saved_with_its_processor_takes_the_same_prompts(tmp_path):
    lvlm: Any = original()
    config = model_config(FAMILY, FAMILIES[FAMILY]["lvlm"])
    tokenizer = loading.load_model_tokenizer(config)
    processor = plain_processor(config, tokenizer, lvlm.config)
    surgery.save_pruned(lvlm, processor, tmp_path / "pruned", "None.")
    assert type(AutoProcessor.from_pretrained(tmp_path / "pruned")) is type(processor)
    assert AutoImageProcessor.from_pretrained(tmp_path / "pruned").size == processor.image_processor.size
    again = loading.load_model_tokenizer(dataclasses.replace(config, lvlm=str(tmp_path / "pruned"), tokenizer=None))
    assert loading.image_token_id(config, again) == loading.image_token_id(config, tokenizer)
    ids = [encoding.tokenize_prompt("What?", each, config.template, has_image=True) for each in (tokenizer, again)]
    assert ids[0] == ids[1]


def test_finished_run_loads_with_its_adapter_merged(tmp_path):
    config = model_config(FAMILY, None)
    tuned = lora.apply_lora(loading.load(config), (0, 3), LoraConfig(r=4, alpha=8))
    generator = torch.Generator().manual_seed(0)
    state = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in lora.trainable_parameters(tuned).items()
    }
    tuned.load_state_dict(state, strict=False)
    lora_checkpoint.save_adapter(tuned, state, tmp_path / "run" / "adapter")
    merged = tuned.merge_and_unload().state_dict()
    for folder in (tmp_path / "run", tmp_path / "run" / "adapter"):
        for name, tensor in load(folder).state_dict().items():
            torch.testing.assert_close(tensor, merged[name], atol=1e-6, rtol=0)
    (tmp_path / "run" / "config.yaml").write_text("model: {backbone: meta-llama/Meta-Llama-3-8B}")
    refused(r"model\.backbone=.*vicuna-tiny: .*run was tuned on meta-llama/Meta-Llama-3-8B", tmp_path / "run")


def test_vision_layers_after_the_feature_layer_may_be_missing(tmp_path):
    unused = ("encoder.layers.3.", "post_layernorm.")
    state = {name: tensor for name, tensor in bunny_state().items() if not any(part in name for part in unused)}
    assert same(load(write(tmp_path / "lvlm", state, official_config())), original())


def without(part: str):
    return lambda state: {name: tensor for name, tensor in state.items() if part not in name}


BROKEN = {  # expected message -> change of a valid checkpoint
    r"missing model\.language_model\.layers\.2\.mlp\.": without("layers.2.mlp"),
    r"missing model\.multi_modal_projector\.linear_1\.bias, .*\(4 tensors\)": without("mm_projector"),
    r"missing model\.vision_tower\.encoder\.layers\.1": without("vision_model.encoder.layers.1."),
    r"not an LVLM in a known layout: unexpected transformer\.wte\.weight": lambda s: (
        s | {"transformer.wte.weight": torch.ones(1)}
    ),
    r"unexpected model\.language_model\.layers\.6\.x": lambda state: state | {"model.layers.6.x": torch.ones(1)},
    r"of another shape model\.multi_modal_projector\.linear_1\.weight": lambda state: (
        state | {"model.mm_projector.0.weight": torch.ones(64, 40)}
    ),
}


@pytest.mark.parametrize("refusal", BROKEN)
def test_incomplete_checkpoint_is_refused_with_tensor_names(refusal, tmp_path):
    folder = write(tmp_path / "lvlm", BROKEN[refusal](bunny_state()), official_config())
    with pytest.raises(ValueError, match=refusal) as error:
        load(folder)
    assert "\n" not in str(error.value)
