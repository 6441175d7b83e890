"""The official models in small: where they are, and how a configuration names them."""

from __future__ import annotations

import os
from pathlib import Path

from vrx.config import ModelConfig

# The repository holds a part, to stay small; the same tests run on all of it where it is at hand.
GOLDEN = Path(os.environ.get("VRX_OFFICIAL_MODELS", Path(__file__).parent / "golden" / "official_models"))
FAMILIES = {
    "llava_official": {
        "lvlm": "llava-tiny-v1.5",
        "backbone": "vicuna-tiny",
        "vision_tower": "clip-vit-tiny-patch14-56",
        "projector": "llava-tiny-pretrain",
        "adapter": "llava-tiny-v1.5-lora",
        "template": "vicuna_v1",
        "image_token": "<0x00>",
        "num_layers": 6,
        "image_processor": "clip",
        "vision_feature_select_strategy": "default",
    },
    "bunny_official": {
        "lvlm": "Bunny-Llama-3-tiny-V",
        "backbone": "llama3-tiny-instruct",
        "vision_tower": "siglip-tiny-patch14-56",
        "projector": "bunny-tiny-pretrain",
        "adapter": "bunny-llama-3-tiny-lora",
        "tokenizer": "../tokenizers/llama3_like",
        "template": "bunny_llama3",
        "image_token": "<|reserved_special_token_0|>",
        "num_layers": 5,
    },
    "bunny_phi3_official": {
        "lvlm": "Bunny-v1.0-tiny-phi3",
        "backbone": "Bunny-v1.0-tiny-phi3",  # for its tokenizer
        "vision_tower": "../bunny_official/siglip-tiny-patch14-56",
        "projector": "bunny-tiny-pretrain",
        "template": "bunny_phi3",
        "image_token": "<|placeholder1|>",
        "num_layers": 4,
    },
}


def model_config(family: str, lvlm: str | None) -> ModelConfig:
    """The model of a family: a finished one, or (None) its parts."""
    told = {key: value for key, value in FAMILIES[family].items() if key != "adapter"}
    for key in told.keys() & {"backbone", "vision_tower", "projector", "tokenizer"}:
        told[key] = str(GOLDEN / family / told[key])
    told["lvlm"] = str(GOLDEN / family / lvlm) if lvlm else None
    return ModelConfig(name=family, num_image_tokens=16, **told)
