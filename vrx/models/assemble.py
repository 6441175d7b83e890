"""An LVLM's parts on disk, backbone, vision tower and projector, and the LVLM assembled from them, as tuning begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionModel,
)
from transformers.modeling_utils import set_zero3_state

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models.checkpoint_layouts import PROJECTOR_FILE, summarize_names
from vrx.models.lazy_state_dict import LazyStateDict, read_bin
from vrx.runs.hub import resolve_checkpoint

TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}


def load_part(model_class: Any, key: str, name: str, dtype: torch.dtype, **options: Any) -> Any:
    """Load a backbone or a vision tower; weights that from_pretrained would initialize at random are refused."""
    folder = resolve_checkpoint(key, name)
    LazyStateDict(folder)  # refuses a damaged file by name
    try:
        model, loading_info = model_class.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, **options
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={name}: {str(error).strip().splitlines()[0]}") from None
    unfit = loading_info["missing_keys"] | {name for name, *_ in loading_info["mismatched_keys"]}
    if unfit:
        raise UserError(f"{key}={name}: missing or of another shape: {summarize_names(unfit)}")
    return model


def load_vision_tower(config: ModelConfig, dtype: torch.dtype) -> Any:
    """Load the vision tower, without SigLIP's pooling head as in Bunny: nothing uses it, and ZeRO-3 cannot run it."""
    options = {"vision_use_head": False} if config.image_processor == "siglip" else {}
    return load_part(TOWERS[config.image_processor], "model.vision_tower", config.vision_tower, dtype, **options)


def assemble(
    config: ModelConfig, options: Mapping[str, Any], projector_state: dict[str, torch.Tensor], dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    """Assemble an LVLM from backbone, vision tower and projector; `options` are fields of LlavaConfig."""
    backbone = load_part(AutoModelForCausalLM, "model.backbone", config.backbone, dtype)
    vision_tower = load_vision_tower(config, dtype)
    lvlm_config = LlavaConfig(
        vision_config=vision_tower.config,
        text_config=backbone.config,
        tie_word_embeddings=backbone.config.tie_word_embeddings,
        **options,
    )
    # An empty model that the parts fill. Under ZeRO-3 it must not be partitioned, though the parts are.
    with torch.device("meta"), set_zero3_state():
        model = LlavaForConditionalGeneration(lvlm_config)
    model.model.language_model = backbone.model
    model.lm_head = backbone.lm_head
    model.model.vision_tower = vision_tower
    state = {name: tensor.to(dtype, copy=True) for name, tensor in projector_state.items()}
    _refuse_misfit(config, model.model.multi_modal_projector, state)
    model.model.multi_modal_projector.load_state_dict(state, assign=True)
    return model


def read_projector(folder: Path) -> dict[str, torch.Tensor]:
    """The projector's tensors, named linear_1 and linear_2, from our file or from LLaVA's `mm_projector.bin`."""
    if (folder / PROJECTOR_FILE).is_file():
        return dict(LazyStateDict(folder, (PROJECTOR_FILE,)))
    if not (folder / "mm_projector.bin").is_file():
        raise UserError(f"model.projector={folder}: holds neither {PROJECTOR_FILE} nor mm_projector.bin")
    names = {"0": "linear_1", "2": "linear_2"}
    tensors = read_bin(folder / "mm_projector.bin")
    parts = {name.rpartition("mm_projector.")[2]: tensor for name, tensor in tensors.items()}
    return {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in parts.items() if name[0] in names}


def _refuse_misfit(config: ModelConfig, module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    needed = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if needed != stored:
        raise UserError(
            f"model.projector={config.lvlm or config.projector}: has {stored}, this tower and backbone need {needed}"
        )
