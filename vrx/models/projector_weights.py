"""Projectors: fresh ones, and the files that hold one, ours and those of LLaVA's and Bunny's stage 1."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models.architecture import part_config
from vrx.models.file_names import OFFICIAL_PROJECTOR, PROJECTOR_FILE
from vrx.models.fit import WITH_CLASS_TOKEN, Shapes, projector_shapes
from vrx.models.lazy_state_dict import LazyStateDict, read_bin

OFFICIAL_NUMBERS = {"0": "linear_1", "2": "linear_2"}  # position in LLaVA's Sequential -> name in transformers
PEFT_PREFIX = "base_model.model."
OFFICIAL_PREFIX = "model.mm_projector."


def fresh_projector(config: ModelConfig, *, seed: int) -> dict[str, Tensor]:
    """Initial tensors of a projector between the tower and the backbone, fp32, as torch initializes a Linear.

    Each tensor depends on the seed and its name alone. Weights and biases are uniform within 1/sqrt(inputs), which for
    weights is Kaiming-uniform with a = sqrt(5), as in LLaVA's `build_vision_projector`.
    """
    shapes = projector_shapes(config)
    assert shapes is not None, "the parts are on this machine"
    return {name: _initial(name, shapes, seed) for name in shapes}


def _initial(name: str, shapes: Shapes, seed: int) -> Tensor:
    hashed = hashlib.sha256(f"{seed}.projector.{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
    inputs = shapes[f"{name.partition('.')[0]}.weight"][1]
    return nn.init.uniform_(torch.empty(shapes[name]), -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator)


def read_projector(folder: Path) -> dict[str, Tensor]:
    """The projector's tensors, named linear_1 and linear_2, from our file or from LLaVA's `mm_projector.bin`."""
    if (folder / PROJECTOR_FILE).is_file():
        return dict(LazyStateDict(folder, (PROJECTOR_FILE,)))
    if not (folder / OFFICIAL_PROJECTOR).is_file():
        raise UserError(f"model.projector={folder}: holds neither {PROJECTOR_FILE} nor {OFFICIAL_PROJECTOR}")
    tensors = read_bin(folder / OFFICIAL_PROJECTOR)
    suffixes = {name.rpartition("mm_projector.")[2]: tensor for name, tensor in tensors.items()}
    known = {f"{number}.{kind}" for number in OFFICIAL_NUMBERS for kind in ("weight", "bias")}
    if unknown := sorted(suffixes.keys() - known):
        raise UserError(
            f"model.projector={folder}: {OFFICIAL_PROJECTOR} has {', '.join(unknown)[:200]}; valid is one of two "
            "layers (mlp2x_gelu)"
        )
    return {
        f"{OFFICIAL_NUMBERS[name[0]]}{name[1:]}": tensor
        for name, tensor in suffixes.items()
        if name[0] in OFFICIAL_NUMBERS
    }


def save_projector(state: dict[str, Tensor], folder: Path) -> None:
    """Save the projector among full tensors of an LVLM, by name, as `projector.safetensors` in an existing folder."""
    save_file(projector_tensors(state), folder / PROJECTOR_FILE)


def save_connector(state: dict[str, Tensor], folder: Path) -> None:
    """Save the tensors trained beside an adapter under their full names; no file where there are none."""
    if state:
        tensors = {name.removeprefix(PEFT_PREFIX): tensor.contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / PROJECTOR_FILE)


def load_connector(model: nn.Module, folder: Path) -> None:
    """Load what `save_connector` saved into an LVLM; `UserError` for tensors of another model."""
    if not (folder / PROJECTOR_FILE).is_file():
        return
    stored, weights = LazyStateDict(folder, (PROJECTOR_FILE,)), dict(model.named_parameters())
    for name, shape in stored.shapes.items():
        if name not in weights or tuple(weights[name].shape) != shape:
            raise UserError(f"{folder / PROJECTOR_FILE}: {name} {shape} is no tensor of this model")
        weights[name].data.copy_(stored[name])


def projector_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The projector's tensors among those of an LVLM, named linear_1 and linear_2."""
    prefix = "multi_modal_projector."
    return {name.rpartition(prefix)[2]: tensor.contiguous() for name, tensor in state.items() if prefix in name}


def save_official_projector(state: dict[str, Tensor], folder: Path, config: ModelConfig) -> None:
    """Save the same as the output of LLaVA's stage 1: `mm_projector.bin` and `config.json`, in an existing folder."""
    numbers = {name: number for number, name in OFFICIAL_NUMBERS.items()}
    tensors = {}
    for name, tensor in projector_tensors(state).items():
        linear, _, kind = name.partition(".")
        tensors[f"{OFFICIAL_PREFIX}{numbers[linear]}.{kind}"] = tensor
    torch.save(tensors, folder / OFFICIAL_PROJECTOR)
    (folder / "config.json").write_text(json.dumps(_official_config(config), indent=2, sort_keys=True) + "\n")


def _official_config(config: ModelConfig) -> dict[str, Any]:
    """The backbone's config.json with the fields that LLaVA's stage 1 adds to it."""
    backbone, tower = part_config(config.backbone, "text_config"), part_config(config.vision_tower, "vision_config")
    assert backbone is not None and tower is not None, "the parts are on this machine"
    keeps_class_token = config.image_processor in WITH_CLASS_TOKEN and config.vision_feature_select_strategy == "full"
    return {
        **backbone,
        "_name_or_path": config.backbone,
        "model_type": f"llava_{backbone['model_type']}",
        "image_aspect_ratio": config.image_aspect_ratio,
        "mm_hidden_size": tower["hidden_size"],
        "mm_patch_merge_type": "flat",
        "mm_projector_lr": None,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "cls_patch" if keeps_class_token else "patch",
        "mm_vision_select_layer": config.vision_feature_layer,
        "mm_vision_tower": config.vision_tower,
        "tokenizer_model_max_length": config.max_length,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": True,
        "freeze_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }
