"""LVLMs and data for measuring cost: a real one's shape, or an nth of its width, random weights, made-up samples."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from vrx.config.schema import ModelConfig
from vrx.data import dataset
from vrx.data.image_processing import PROCESSORS
from vrx.data.tokenizers import encode
from vrx.launch.devices import device
from vrx.models.architecture import values
from vrx.models.assemble import TOWERS
from vrx.models.loading import image_token_id, tokenizer_of

PATCHES = 8  # a side, of the tower of a narrow LVLM: 64 image tokens
WORD = " red"  # one token of the embedded vocabulary


def write_parts(like: ModelConfig, folder: Path, *, scale: int, dtype: torch.dtype) -> None:
    """Write backbone, vision tower and projector as `models.load` reads them, all widths a `scale`-th of the real ones.

    Depth, vocabulary, ratios of widths and width of a head are kept; a narrow tower sees small images.
    """
    text, vision = values(like.backbone, "text_config"), values(like.vision_tower, "vision_config")
    if text is None or vision is None:
        raise ValueError(
            f"model={like.name}: its parts' shapes are not known here; valid is a model with a config.json"
        )
    torch.manual_seed(0)
    backbone = AutoConfig.for_model(text["model_type"], **_narrowed(text, scale), **_special(text))
    with torch.device(device()):
        made: Any = AutoModelForCausalLM.from_config(backbone, dtype=dtype)
    made.save_pretrained(folder / "backbone")
    side = vision["image_size"] if scale == 1 else PATCHES * vision["patch_size"]
    told = _narrowed({"num_attention_heads": 16, **vision}, scale) | {"image_size": side}
    tower = AutoConfig.for_model(vision["model_type"], **told, patch_size=vision["patch_size"])
    TOWERS[like.image_processor](tower).to(dtype).save_pretrained(folder / "vision_tower")
    size = {"height": side, "width": side}
    sizes = {"size": {"shortest_edge": side}, "crop_size": size} if like.image_processor == "clip" else {"size": size}
    PROCESSORS[like.image_processor](**sizes).save_pretrained(folder / "vision_tower")
    widths = {"linear_1": tower.hidden_size, "linear_2": backbone.hidden_size}
    projector = {}
    for name, width in widths.items():
        projector[f"{name}.weight"] = torch.randn(backbone.hidden_size, width, dtype=dtype) * width**-0.5
        projector[f"{name}.bias"] = torch.zeros(backbone.hidden_size, dtype=dtype)
    (folder / "projector").mkdir(exist_ok=True)
    save_file(projector, folder / "projector" / "projector.safetensors")


def _narrowed(told: dict[str, Any], scale: int) -> dict[str, Any]:
    kept = {key: told[key] for key in ("num_hidden_layers", "vocab_size") if key in told}
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    return kept | {key: max(1, told[key] // scale) for key in names if key in told}


def _special(told: dict[str, Any]) -> dict[str, Any]:
    """Tokens that a configuration may not name beyond its vocabulary, and Phi-3's window."""
    window = {"sliding_window": 2047} if told["model_type"] == "phi3" else {}
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, **window}


def write_instructions(
    model: ModelConfig, folder: Path, *, lengths: list[int], supervised: float, num_samples: int
) -> None:
    """Conversations of just so many positions, image tokens counted, in LLaVA's format, each with a picture."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(model)
    assert len(encode(2 * WORD, tokenizer, has_image=False)) - len(encode(WORD, tokenizer, has_image=False)) == 1
    samples = dataset.TrainingDataset(
        [],  # type: ignore[arg-type]
        model,
        tokenizer,
        image_token_id=image_token_id(model, tokenizer),
        image_folder=folder / "images",
        on_bad_image="error",
    )
    rows, chooser = [], random.Random(0)
    for number in range(num_samples):
        length = lengths[number % len(lengths)]
        told = max(1, round(supervised * length))
        row = _conversation(number, 1, told)
        asked = 1 + length - len(samples.encoded(row, has_image=True)["input_ids"])
        if asked < 1:
            raise ValueError(f"bench.lengths={lengths}: valid is {length - asked + 1} or more with this model's images")
        rows.append(_conversation(number, asked, told))
        colour = tuple(chooser.randrange(256) for _ in range(3))
        Image.new("RGB", (64, 48), colour).save(folder / "images" / f"{number}.png")
    for row in rows:
        row["conversations"] = json.loads(row["conversations"])
    (folder / "instructions.json").write_text(json.dumps(rows))


def _conversation(number: int, asked: int, told: int) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": f"<image>\n{WORD.strip()}{WORD * (asked - 1)}"},
        {"from": "gpt", "value": f"{WORD.strip()}{WORD * (told - 2)}"},
    ]
    return {"id": str(number), "image": f"{number}.png", "conversations": json.dumps(turns)}
