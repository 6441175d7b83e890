"""The small official checkpoints in every layout of tensor names."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.official import FAMILIES, GOLDEN, model_config

from vrx.config.errors import UserError
from vrx.models import loading

FAMILY = "llava_official"
FOLDER = GOLDEN / FAMILY


@cache
def original():
    """The LVLM of a checkpoint in LLaVA's own layout."""
    return loading.load(model_config(FAMILY, FAMILIES[FAMILY]["lvlm"]))


def renamed(name: str, pairs: dict[str, str]) -> str:
    prefix = next(prefix for prefix in pairs if name.startswith(prefix))
    return pairs[prefix] + name.removeprefix(prefix)


OTHER_LAYOUTS = {  # how the names in memory are written there
    "llava-hf before 4.52": {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "model.vision_tower.": "vision_tower.vision_model.",
    },
    "a state dict of 4.52 to 4.57": {
        "model.vision_tower.": "model.vision_tower.vision_model.",
        "model.": "model.",
        "lm_head.": "lm_head.",
    },
    "the names in memory": {"": ""},
    "Bunny, its tower inside": {
        "model.language_model.": "model.",
        "lm_head.": "lm_head.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
    },
}


def write(folder: Path, state: dict[str, torch.Tensor], config: dict) -> Path:
    """A checkpoint in two shards."""
    folder.mkdir()
    names = sorted(state)
    files = {name: f"model-0000{1 + (number % 2)}-of-00002.safetensors" for number, name in enumerate(names)}
    for file in sorted(set(files.values())):
        save_file({name: state[name].contiguous() for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def official_config() -> dict:
    return json.loads((FOLDER / "llava-tiny-v1.5" / "config.json").read_text())


def config_of(layout: str) -> dict:
    return official_config() if "Bunny" in layout else original().config.to_dict()


def load(folder: Path, **changes):
    config = model_config(FAMILY, None)
    told = {"lvlm": str(folder), "tokenizer": config.tokenizer or config.backbone, **changes}
    return loading.load(dataclasses.replace(config, **told))


def same(ours, theirs) -> bool:
    mine, other = ours.state_dict(), theirs.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def bunny_state() -> dict[str, torch.Tensor]:
    names = OTHER_LAYOUTS["Bunny, its tower inside"]
    return {renamed(name, names): tensor for name, tensor in original().state_dict().items()}


def refused(match: str, folder: Path, **changes) -> None:
    with pytest.raises(UserError, match=match) as told:
        load(folder, **changes)
    assert "\n" not in str(told.value)
