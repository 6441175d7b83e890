"""`model.lvlm` names the directory of a run on one checkpoint: what it tuned is loaded, and tuned on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from support.composing import composed
from support.families import move

from vrx.config.errors import UserError
from vrx.config.frozen import freeze
from vrx.config.schema import LoraConfig, ModelConfig
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.models import fit, lora, lora_checkpoint, native
from vrx.models.projector_weights import save_connector
from vrx.runs.content_digest import content_digests, weights_fingerprint
from vrx.runs.counted_model import counted
from vrx.runs.run_dir import RunDir


def tune(family: Any, config: ModelConfig, folder: Path, layers: tuple[int, ...]) -> tuple[ModelConfig, torch.Tensor]:
    """Leave a run that tuned a model; gives the model of that run, and the logits while it was tuned."""
    model = native.load_native(config)
    tuned = lora.apply_lora(model, layers, LoraConfig(r=4, alpha=8, dropout=0.0), beside=family.row.connector)
    move(lora.trainable_parameters(tuned))
    state = {name: parameter.detach() for name, parameter in lora.trainable_parameters(tuned).items()}
    lora_checkpoint.save_adapter(tuned, state, RunDir(folder).adapter, save_beside=save_connector)
    run = dataclasses.replace(composed(["model=qwen2.5-vl-3b"]), model=config)
    RunDir(folder).config.write_text(freeze(run))
    return dataclasses.replace(config, lvlm=str(folder)), logits(family, model)


@torch.inference_mode()
def logits(family: Any, model: Any) -> torch.Tensor:
    batch = family.collate([family.sample(0)])
    return model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.tensors).logits


def test_a_run_is_tuned_on_and_its_result_again(tiny_family: Any, tmp_path: Path):
    family = tiny_family("qwen2_5_vl")
    config, results = family.config, [logits(family, family.model())]
    for number, layers in enumerate(((1, 5), (2, 5))):
        (tmp_path / str(number)).mkdir()
        before = weights_fingerprint(config)
        config, expected = tune(family, config, tmp_path / str(number), layers)
        found = logits(family, native.load_native(config))
        assert (found - expected).abs().max() < 1e-3
        assert (found - results[-1]).abs().max() > 1e-2
        assert weights_fingerprint(config) != before
        results.append(found)
    fit.require_fit(config)
    native.load_native(config, on_meta=True)
    assert counted(config) == counted(family.config)
    assert content_digests(config, ())["tokenizer"] == content_digests(family.config, ())["tokenizer"]
    assert forward_keys(config) == forward_keys(family.config)
    assert load_processor(config).chat_template == load_processor(family.config).chat_template


def test_a_run_without_an_adapter_is_refused(tiny_family: Any, tmp_path: Path):
    config = dataclasses.replace(tiny_family("qwen2_5_vl").config, lvlm=str(tmp_path))
    RunDir(tmp_path).config.write_text(freeze(composed(["model=qwen2.5-vl-3b"])))
    with pytest.raises(UserError, match=f"^model.lvlm={tmp_path}: a run without an adapter"):
        fit.require_fit(config)
