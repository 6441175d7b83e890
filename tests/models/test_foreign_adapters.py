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
    assert len(Adapter(adapter(tmp_path, init_lora_weights="gaussian"))) == 1


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
