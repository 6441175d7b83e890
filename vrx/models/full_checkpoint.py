"""Loading an LVLM from a full checkpoint in any layout of `checkpoint_layouts`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedConfig

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models import checkpoint_layouts
from vrx.models.assemble import TOWERS, load_vision_tower
from vrx.models.checkpoint_layouts import LlavaOptions, summarize_names
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.lvlm import TOWER
from vrx.models.part_settings import require_obeyed_in
from vrx.runs.hub import resolve_checkpoint

HEAD = "lm_head.weight"
FINAL_NORMS = (f"{TOWER}post_layernorm.", f"{TOWER}layernorm.")  # after the last layer, so never in a feature


def load_full_checkpoint(
    config: ModelConfig, folder: Path, options: LlavaOptions, dtype: torch.dtype, *, on_meta: bool = False
) -> LlavaForConditionalGeneration:
    """Load a full checkpoint of an LVLM, tensor by tensor; on_meta: check everything, but load no weights.

    A checkpoint without a vision tower gets `model.vision_tower`. Vision layers after `model.vision_feature_layer` are
    unused and may be absent.
    """
    checkpoint_layouts.require_full_checkpoint(folder)
    stored = LazyStateDict(folder)
    names = checkpoint_layouts.map_names(stored, folder)
    tower = tower_config(config) if checkpoint_layouts.is_official(folder) else None
    lvlm_config = checkpoint_layouts.read_lvlm_config(folder, tower, options)
    if config.image_processor == "siglip":
        lvlm_config.vision_config.vision_use_head = False  # see load_vision_tower  # type: ignore[union-attr]
        names = {name: stored_name for name, stored_name in names.items() if not name.startswith(f"{TOWER}head.")}
    if checkpoint_layouts.is_official(folder):
        require_obeyed_in(folder, config)
    try:
        with init_empty_weights(include_buffers=False):
            model = LlavaForConditionalGeneration(lvlm_config)
    except Exception as error:  # of a configuration with nonsense
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder / 'config.json'}: no model can be made of it: {reason}") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if lvlm_config.tie_word_embeddings:
        shapes.pop(HEAD)
    _require_complete(config, names, shapes=shapes, stored=stored, lvlm_config=lvlm_config)
    if on_meta:
        return model
    state: dict[str, Tensor] = {
        name: stored[stored_name].to(dtype) for name, stored_name in names.items() if name in shapes
    }
    tower_names = {name for name in shapes.keys() - names.keys() if name.startswith(TOWER)}
    if tower_names:
        tower_state = load_vision_tower(config, dtype).state_dict()
        state |= {name: tower_state[name.removeprefix(TOWER)] for name in tower_names}
    model.load_state_dict(state, assign=True, strict=False)
    model.tie_weights()
    return model


def _require_complete(
    config: ModelConfig,
    names: Mapping[str, str],
    *,
    shapes: Mapping[str, tuple[int, ...]],
    stored: LazyStateDict,
    lvlm_config: LlavaConfig,
) -> None:
    """Raise `UserError` for tensors that are missing, unexpected or of another shape than the model's.

    names: name in memory -> name in the checkpoint; shapes: of the model's tensors, by name in memory.
    """
    absent = shapes.keys() - names.keys()
    absent_in_tower = {name for name in absent if name.startswith(TOWER)}
    has_tower = any(name.startswith(TOWER) for name in names)
    missing = absent - (_unused_tower_tensors(absent_in_tower, lvlm_config) if has_tower else absent_in_tower)
    unexpected = names.keys() - shapes.keys() - {HEAD}
    misshapen = [name for name in names.keys() & shapes.keys() if stored.shapes[names[name]] != shapes[name]]
    for problem, tensors in {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}.items():
        if tensors:
            raise UserError(f"model.lvlm={config.lvlm}: does not fit the model: {problem} {summarize_names(tensors)}")


def tower_config(config: ModelConfig) -> PreTrainedConfig:
    """The configuration of `model.vision_tower`."""
    folder = resolve_checkpoint("model.vision_tower", config.vision_tower, weights=False)
    try:
        return TOWERS[config.image_processor].config_class.from_pretrained(folder)
    except Exception as error:  # its checks raise many kinds
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.vision_tower={config.vision_tower}: config.json cannot be read: {reason}") from None


def _unused_tower_tensors(names: Iterable[str], lvlm_config: LlavaConfig) -> set[str]:
    """The tensors of a vision tower that its feature layer does not depend on."""
    vision: Any = lvlm_config.vision_config
    first_unused = vision.num_hidden_layers + lvlm_config.vision_feature_layer + 1  # -2 of 24 layers: layer 23

    def is_unused(name: str) -> bool:
        layer = re.match(rf"{TOWER}encoder\.layers?\.(\d+)\.", name)  # CLIP and SigLIP: layers, DINOv2: layer
        return int(layer[1]) >= first_unused if layer else name.startswith(FINAL_NORMS)

    return {name for name in names if is_unused(name)}
