"""Assembling an LVLM from its parts on disk: backbone, vision tower and projector."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
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
from vrx.runs.files import read_json_object
from vrx.runs.hub import resolve_checkpoint

# Tensors beside a tower or a backbone that their features do not depend on: CLIP's text model, SigLIP's and DINOv2's
# heads, buffers of old versions.
UNUSED = re.compile(
    r"(^|\.)(text_model|text_projection|visual_projection|logit_scale|logit_bias|head|classifier|mask_token)(\.|$)"
    r"|position_ids$|inv_freq$|^lm_head\.weight$"
)
TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel, "dinov2": Dinov2Model}


def load_part(
    model_class: Any,  # a model class or AutoModelForCausalLM
    key: str,
    name: str,
    dtype: torch.dtype,
    *,
    on_meta: bool = False,
    **options: bool,
) -> PreTrainedModel:
    """Load a backbone or a vision tower; `UserError` for weights that from_pretrained would initialize or leave out.

    on_meta: check everything, but load no weights.
    """
    folder = resolve_checkpoint(key, name)
    LazyStateDict(folder)  # raises UserError for a damaged file
    read_json_object(folder / "config.json")
    load = functools.partial(
        model_class.from_pretrained, folder, trust_remote_code=False, output_loading_info=True, **options
    )
    try:
        if on_meta:
            model, loading_info = load(dtype=dtype, device_map="meta", ignore_mismatched_sizes=True)
        else:
            model, loading_info = load(dtype=dtype)
    except Exception as error:  # of configurations and files of any kind
        if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" in str(error):  # that error names no tensor
            _require_same_tensors(f"{key}={name}", _loading_info_on_meta(load))
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{key}={name}: cannot be loaded: {type(error).__name__}: {reason}") from None
    _require_same_tensors(f"{key}={name}", loading_info)
    return model


def _loading_info_on_meta(load: Callable[..., Any]) -> dict[str, Any]:
    """What loading finds without memory for weights, for an error that names tensors; empty where that fails too."""
    try:
        return load(device_map="meta", ignore_mismatched_sizes=True)[1]
    except Exception:  # under ZeRO-3
        return {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()}


def _require_same_tensors(part: str, loading_info: dict[str, Any]) -> None:
    """Refuse weights that are not those of the model that their config.json describes."""
    misfits = loading_info["missing_keys"] | {name for name, *_ in loading_info["mismatched_keys"]}
    if misfits:
        raise UserError(f"{part}: missing or of another shape: {summarize_names(misfits)}")
    unexpected = [name for name in loading_info["unexpected_keys"] if not UNUSED.search(name)]
    if unexpected:
        raise UserError(f"{part}: its config.json describes a model without {summarize_names(unexpected)}")


def load_vision_tower(config: ModelConfig, dtype: torch.dtype, *, on_meta: bool = False) -> PreTrainedModel:
    """Load the vision tower, without SigLIP's pooling head, as in Bunny: it is unused, and fails under ZeRO-3."""
    options = {"vision_use_head": False} if config.image_processor == "siglip" else {}
    tower_class = TOWERS[config.image_processor]
    return load_part(tower_class, "model.vision_tower", config.vision_tower, dtype, on_meta=on_meta, **options)


def assemble(
    config: ModelConfig,
    options: LlavaOptions,
    projector_state: dict[str, torch.Tensor],
    dtype: torch.dtype,
    *,
    on_meta: bool = False,
) -> LlavaForConditionalGeneration:
    """Assemble an LVLM from backbone, vision tower and projector; on_meta: without their weights.

    projector_state: as `read_projector` returns it. `UserError` if its shapes do not fit the other parts.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in projector_state.items()}
    require_projector(config, shapes, source=config.lvlm)
    backbone = load_part(AutoModelForCausalLM, "model.backbone", config.backbone, dtype, on_meta=on_meta)
    vision_tower = load_vision_tower(config, dtype, on_meta=on_meta)
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
