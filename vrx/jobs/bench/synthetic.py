"""Synthetic LVLMs and samples: the shape of a real model, or a fraction of its width, with random weights."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.images.processing import PROCESSORS
from vrx.data.images.size import CROPPING
from vrx.data.instructions import dataset
from vrx.data.tokenizers import encode
from vrx.launch.devices import device
from vrx.models.architecture import part_config
from vrx.models.assemble import TOWERS
from vrx.models.fit import INTERPOLATING
from vrx.models.loading import image_token_id, load_model_tokenizer

PATCHES = 8  # along a side of the image of a narrow LVLM: 64 image tokens
WORD = " red"  # one token of the embedded vocabulary


def write_parts(like: ModelConfig, folder: Path, *, scale: int, dtype: torch.dtype) -> None:
    """Write backbone, vision tower and projector as `models.load` reads them, every width divided by `scale`.

    Depth, vocabulary and the ratios of the widths stay; a narrow tower gets small images. `UserError` where
    the shape of a part is unknown.
    """
    text, vision = part_config(like.backbone, "text_config"), part_config(like.vision_tower, "vision_config")
    if text is None or vision is None:
        raise UserError(f"model={like.name}: unknown shape; valid: a model whose config.json is on this machine")
    torch.manual_seed(0)
    backbone = AutoConfig.for_model(text["model_type"], **_narrowed(text, scale), **_special(text))
    with torch.device(device()):
        model: Any = AutoModelForCausalLM.from_config(backbone, dtype=dtype)
    model.save_pretrained(folder / "backbone")
    side = _image_side(like, vision) if scale == 1 else PATCHES * vision["patch_size"]
    tower_fields = _narrowed({"num_attention_heads": 16, **vision}, scale) | {"image_size": side}
    tower = AutoConfig.for_model(vision["model_type"], **tower_fields, patch_size=vision["patch_size"])
    TOWERS[like.image_processor](tower).to(dtype).save_pretrained(folder / "vision_tower")
    size = {"height": side, "width": side}
    sizes = {"size": {"shortest_edge": side}, "crop_size": size} if like.image_processor in CROPPING else {"size": size}
    PROCESSORS[like.image_processor](**sizes).save_pretrained(folder / "vision_tower")
    widths = {"linear_1": tower.hidden_size, "linear_2": backbone.hidden_size}
    projector = {}
    for name, width in widths.items():
        projector[f"{name}.weight"] = torch.randn(backbone.hidden_size, width, dtype=dtype) * width**-0.5
        projector[f"{name}.bias"] = torch.zeros(backbone.hidden_size, dtype=dtype)
    (folder / "projector").mkdir(exist_ok=True)
    save_file(projector, folder / "projector" / "projector.safetensors")


def _image_side(like: ModelConfig, vision: dict[str, Any]) -> int:
    """Pixels along a side of an image at full size; DINOv2's positions are for larger images than it is given."""
    if like.image_processor != INTERPOLATING:
        return vision["image_size"]
    return math.isqrt(like.num_image_tokens) * vision["patch_size"]  # with a class token too: n * n + 1


def _narrowed(config_json: dict[str, Any], scale: int) -> dict[str, Any]:
    unscaled = {key: config_json[key] for key in ("num_hidden_layers", "vocab_size") if key in config_json}
    widths = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    return unscaled | {key: max(1, config_json[key] // scale) for key in widths if key in config_json}


def _special(config_json: dict[str, Any]) -> dict[str, Any]:
    """Special tokens within the vocabulary, and Phi-3's sliding window."""
    window = {"sliding_window": 2047} if config_json["model_type"] == "phi3" else {}
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, **window}


def write_instructions(
    model: ModelConfig, folder: Path, *, lengths: list[int], supervised: float, num_samples: int
) -> None:
    """Write conversations in LLaVA's format, each with an image and an exact number of positions.

    lengths: positions of the samples in turn, image tokens included; supervised: share of them in the reply.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    tokenizer = load_model_tokenizer(model)
    assert len(encode(2 * WORD, tokenizer, has_image=False)) - len(encode(WORD, tokenizer, has_image=False)) == 1
    samples = dataset.TrainingDataset(
        [],
        model,
        tokenizer,
        image_token_id=image_token_id(model, tokenizer),
        image_folder=folder / "images",
        on_bad_image="error",
    )
    rows, rng = [], random.Random(0)
    for number in range(num_samples):
        length = lengths[number % len(lengths)]
        reply_length = max(1, round(supervised * length))
        shortest = _conversation(number, 1, reply_length)
        question_length = 1 + length - len(samples.encode(shortest["conversations"], has_image=True).input_ids)
        if question_length < 1:
            smallest = length - question_length + 1
            raise UserError(f"bench.lengths={lengths}: must be >= {smallest} with this model's images")
        rows.append(_conversation(number, question_length, reply_length))
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (64, 48), colour).save(folder / "images" / f"{number}.png")
    for row in rows:
        row["conversations"] = json.loads(row["conversations"])
    (folder / "instructions.json").write_text(json.dumps(rows))


def _conversation(number: int, question_length: int, reply_length: int) -> dict[str, str]:
    turns = [
        {"from": "human", "value": f"<image>\n{WORD.strip()}{WORD * (question_length - 1)}"},
        {"from": "gpt", "value": f"{WORD.strip()}{WORD * (reply_length - 2)}"},
    ]
    return {"id": str(number), "image": f"{number}.png", "conversations": json.dumps(turns)}
