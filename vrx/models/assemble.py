"""Assembling an LVLM from its parts on disk: backbone, vision tower and projector."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPVisionModel,
    Dinov2Model,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers.modeling_utils import set_zero3_state

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models.checkpoint_layouts import LlavaOptions, summarize_names
from vrx.models.fit import require_projector
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.runs.hub import resolve_checkpoint

TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel, "dinov2": Dinov2Model}


def load_part(
    model_class: Any,  # a model class or AutoModelForCausalLM
    key: str,
    name: str,
    dtype: torch.dtype,
    **options: bool,
) -> PreTrainedModel:
    """Load a backbone or a vision tower; `UserError` for weights that from_pretrained would initialize randomly."""
    folder = resolve_checkpoint(key, name)
    LazyStateDict(folder)  # raises UserError for a damaged file
    try:
        model, loading_info = model_class.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, **options
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={name}: {str(error).strip().splitlines()[0]}") from None
    misfits = loading_info["missing_keys"] | {name for name, *_ in loading_info["mismatched_keys"]}
    if misfits:
        raise UserError(f"{key}={name}: missing or of another shape: {summarize_names(misfits)}")
    return model


def load_vision_tower(config: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Load the vision tower, without SigLIP's pooling head, as in Bunny: it is unused, and fails under ZeRO-3."""
    options = {"vision_use_head": False} if config.image_processor == "siglip" else {}
    return load_part(TOWERS[config.image_processor], "model.vision_tower", config.vision_tower, dtype, **options)


def assemble(
    config: ModelConfig, options: LlavaOptions, projector_state: dict[str, torch.Tensor], dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    """Assemble an LVLM from backbone, vision tower and projector.

    projector_state: as `read_projector` returns it. `UserError` if its shapes do not fit the other parts.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in projector_state.items()}
    require_projector(config, shapes, source=config.lvlm)
    backbone = load_part(AutoModelForCausalLM, "model.backbone", config.backbone, dtype)
    vision_tower = load_vision_tower(config, dtype)
    lvlm_config = _lvlm_config(vision_tower.config, backbone.config, options)
    # The empty model takes the parts. Under ZeRO-3 the parts are partitioned, the empty model must not be.
    with torch.device("meta"), set_zero3_state():
        model = LlavaForConditionalGeneration(lvlm_config)
    model.model.language_model = backbone.model
    model.lm_head = backbone.lm_head
    model.model.vision_tower = vision_tower
    state = {name: tensor.to(dtype, copy=True) for name, tensor in projector_state.items()}
    model.model.multi_modal_projector.load_state_dict(state, assign=True)
    return model


def assembled_config(config: ModelConfig, options: LlavaOptions) -> LlavaConfig:
    """The configuration of the LVLM that `assemble` makes, from the small files of its parts."""
    backbone = resolve_checkpoint("model.backbone", config.backbone, weights=False)
    try:
        text_config = AutoConfig.from_pretrained(backbone, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"model.backbone={config.backbone}: {str(error).strip().splitlines()[0]}") from None
    tower = resolve_checkpoint("model.vision_tower", config.vision_tower, weights=False)
    return _lvlm_config(TOWERS[config.image_processor].config_class.from_pretrained(tower), text_config, options)


def _lvlm_config(vision_config: Any, text_config: Any, options: LlavaOptions) -> LlavaConfig:
    return LlavaConfig(
        vision_config=vision_config,
        text_config=text_config,
        tie_word_embeddings=text_config.tie_word_embeddings,
        **options,
    )
