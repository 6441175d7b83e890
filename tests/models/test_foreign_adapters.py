"""Adapters and projectors that mean more than their plain tensors say are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vrx.config.errors import UserError
from vrx.models.lora_checkpoint import Adapter, require_same_backbone
from vrx.models.projector_weights import read_projector

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def adapter(folder: Path, *, empty: bool = False, **changed: Any) -> Path:
    shapes = {"A": (0,) if empty else (2, 4), "B": (0,) if empty else (4, 2)}
    save_file(
        {f"{STEM}.lora_{part}.weight": torch.ones(shape) for part, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **changed}))
    return folder


def test_a_plain_adapter_is_read(tmp_path: Path):
    plain = {"init_lora_weights": "gaussian", "use_qalora": False, "megatron_core": "megatron.core"}
    for targets in (["q_proj"], ["model.layers.0.self_attn.q_proj"], r".*\.layers\.\d+\..*q_proj", "all-linear", None):
        assert len(Adapter(adapter(tmp_path, **plain, target_modules=targets, layers_to_transform=[0]))) == 1


def test_a_run_whose_configuration_was_damaged_is_refused_by_its_file(tmp_path: Path):
    for content in ("model: [", "a: &a [1]\nb: *a\n", "- 1\n", "model: {}\n"):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(UserError, match=r"config\.yaml: not "):
            require_same_backbone(tmp_path, "/x/vicuna-tiny", tmp_path)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        *(
            ({"init_lora_weights": start}, f"init_lora_weights={start}")
            for start in ("pissa", "olora", "loftq", "corda")
        ),
        ({"init_lora_weights": "loftq"}, "init_lora_weights=loftq"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"r": 999}, "not r=999|r=999"),
        ({"r": 0}, "r=0: must be"),
        ({"r": True}, "r=True|r=1"),
        ({"lora_alpha": "x"}, "lora_alpha=x: must be"),
        ({"target_modules": ["q_proj", "k_proj"]}, "target_modules of adapter_config.json: no tensors of k_proj"),
        ({"target_modules": ["k_proj", "self_attn.q"]}, "no tensors of k_proj, self_attn.q"),
        ({"target_modules": r".*\.k_proj"}, "tensors of model.layers.0.self_attn.q_proj too"),
        ({"target_modules": "("}, "no regular expression"),
        ({"layers_to_transform": [1]}, r"of the layers \[0\], not of adapter_config.json's layers_to_transform=\[1\]"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "this is LORA layer_replication"),
        ({"use_qalora": True}, "this is LORA use_qalora"),
        ({"a key of tomorrow": 1}, "this is LORA a key of tomorrow"),
        ({"empty": True}, "empty ones were saved under ZeRO-3"),
    ],
)
def test_an_adapter_that_means_more_is_refused(tmp_path: Path, changed: dict[str, Any], why: str):
    with pytest.raises(UserError, match=why):
        Adapter(adapter(tmp_path, **changed))


def test_a_deeper_projector_is_refused(tmp_path: Path):
    names = [f"model.mm_projector.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "mm_projector.bin")
    with pytest.raises(UserError, match=r"mm_projector\.bin has 4\.bias, 4\.weight"):
        read_projector(tmp_path)


@pytest.mark.parametrize(
    "told",
    ["/c/hub/models--lmsys--vicuna-tiny/snapshots/3321f76e3f527bd1", "C:\\models\\vicuna-tiny", "lmsys/Vicuna_tiny/"],
)
def test_the_right_base_is_known_by_any_path(tmp_path: Path, told: str):
    require_same_backbone(adapter(tmp_path, base_model_name_or_path=told), "/x/vicuna-tiny", tmp_path)
    with pytest.raises(UserError, match="was tuned on"):
        require_same_backbone(tmp_path, "/x/vicuna-other", tmp_path)
