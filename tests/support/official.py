"""The official models in small: where they are, how a configuration names them, and their cases as batches of ours."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from vrx.config.schema import LoraConfig, ModelConfig
from vrx.data import batch
from vrx.data.images.processing import Pixels, open_rgb
from vrx.data.instructions import dataset
from vrx.data.instructions.encoding import expand_images
from vrx.models import loading, lora
from vrx.models.lora_checkpoint import Adapter, tensors_beside_adapter
from vrx.training import loss

# The repository holds a part, to stay small; the same tests run on all of it where it is at hand.
GOLDEN = Path(os.environ.get("VRX_OFFICIAL_MODELS", Path(__file__).parents[1] / "golden" / "official_models"))
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
    parts = {key: value for key, value in FAMILIES[family].items() if key != "adapter"}
    for key in parts.keys() & {"backbone", "vision_tower", "projector", "tokenizer"}:
        parts[key] = str(GOLDEN / family / parts[key])
    parts["lvlm"] = str(GOLDEN / family / lvlm) if lvlm else None
    return ModelConfig(name=family, num_image_tokens=16, **parts)


@cache
def loaded(family: str, lvlm: str | None):
    needed = [FAMILIES[family]["vision_tower"], *([lvlm] if lvlm else [])]
    if lvlm != FAMILIES[family]["lvlm"]:
        needed.append(FAMILIES[family]["backbone"])
    absent = [name for name in needed if not (GOLDEN / family / name).is_dir()]
    if absent:
        pytest.skip(f"{', '.join(absent)}: kept outside the repository, see VRX_OFFICIAL_MODELS")
    return loading.load(model_config(family, lvlm))


@cache
def cases(family: str):
    return json.loads((GOLDEN / family / "cases.json").read_text(encoding="utf-8"))


@cache
def arrays(family: str, name: str):
    path = GOLDEN / family / "arrays" / name
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@cache
def conversations(family: str):
    """The conversations whose text is known, by id."""
    return {case["id"]: case for case in cases(family)["conversations"] + cases(family).get("edge", [])}


def encoded(family: str, *records: dict, max_length: int = 2048):
    """Conversations as training takes them from rows of instruction data."""
    config = dataclasses.replace(model_config(family, None), max_length=max_length)
    tokenizer = loading.load_model_tokenizer(config)
    rows = [
        {"id": record["id"], "image": record.get("image"), "conversations": json.dumps(record["conversations"])}
        for record in records
    ]
    source = dataset.TrainingDataset(
        rows,
        config,
        tokenizer,
        image_token_id=loading.image_token_id(config, tokenizer),
        image_folder=GOLDEN / "images",
        on_bad_image="error",
    )
    return batch.collate([source[number] for number in range(len(rows))], pad_token_id=int(tokenizer.pad_token_id))


def near(ours: torch.Tensor, official: torch.Tensor, tolerance: float) -> None:
    assert (ours - official).abs().max() < tolerance


MIXED = ("landscape.png", None, "gray_L.png", "odd_57x56.png")  # images of the batch whose text is in its ids alone


def recorded_batch(family: str, key: str = "merged/batch/mixed/2048"):
    """The batch of four that LoRA and stage 0 are checked with, from official ids and labels."""
    official = {name: arrays(family, "lora.npz")[f"{key}/{name}"] for name in ("input_ids", "attention_mask", "labels")}
    config = model_config(family, None)
    tokenizer = loading.load_model_tokenizer(config)
    image_token_id = loading.image_token_id(config, tokenizer)
    rows = []
    for number, image in enumerate(MIXED):
        length = int(official["attention_mask"][number].sum())
        ids = official["input_ids"][number].tolist()[: length - 15 if image else length]
        ids, _ = expand_images(ids, None, image_token_id=image_token_id, num_image_tokens=16)
        pixels = Pixels(config)(open_rgb(GOLDEN / "images" / image)) if image else None
        labels = official["labels"][number][:length].tolist()
        rows.append(batch.TrainingSample(ids, labels, pixels))
    return batch.collate(rows, pad_token_id=int(tokenizer.pad_token_id))


def tuning(family: str):
    """An LVLM in tuning, where the official trainer began: the adapter not merged, beside the projector."""
    loaded(family, FAMILIES[family]["adapter"])  # skips where it is not at hand
    folder = GOLDEN / family / FAMILIES[family]["adapter"]
    lvlm = loading.load(model_config(family, None))
    layers = cases(family)["meta"]["lora_layers"]
    tuned = lora.apply_lora(lvlm, layers, LoraConfig(r=8, alpha=16, dropout=0.0))
    adapter = Adapter(folder)
    assert adapter.scale == 2
    state = tensors_beside_adapter(folder)
    for weight in adapter:
        for which in "AB":
            state[weight.replace("weight", f"lora_{which}.default.weight")] = adapter.part(weight, which)
    missing, unexpected = tuned.base_model.model.load_state_dict(state, strict=False)
    assert not unexpected and not any("lora" in name or "projector" in name for name in missing)
    return loss.LvlmWithLoss(lvlm, Pixels(model_config(family, None)).blank())


def our_name(official: str) -> str:
    """base_model.model.model.layers.1.mlp.up_proj.lora_A.default.weight, as the module that is trained names it."""
    name = official.replace("base_model.model.model.layers", "lvlm.model.language_model.layers")
    for number, linear in (("0", "linear_1"), ("2", "linear_2")):
        name = name.replace(
            f"base_model.model.model.mm_projector.{number}.", f"lvlm.model.multi_modal_projector.{linear}."
        )
    return name


def loss_of(module, micro_batch):
    return module(**micro_batch.model_inputs()) / loss.num_supervised(micro_batch)
