"""A finished LVLM, read from a checkpoint of all of it in any layout that `checkpoint_layouts` knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedConfig

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models import checkpoint_layouts
from vrx.models.assemble import TOWERS, tower
from vrx.models.checkpoint_layouts import TOWER, some
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.runs.hub import resolve_checkpoint


def read_whole(
    config: ModelConfig, folder: Path, options: Mapping[str, Any], dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    """A checkpoint of the whole LVLM, read tensor by tensor; the tower is `model.vision_tower` where none is inside.

    What lies behind the tower's feature layer is never used, and may be missing.
    """
    checkpoint_layouts.refuse_other(folder)
    stored = LazyStateDict(folder)
    names = checkpoint_layouts.named(stored, folder)
    tower_config = _tower_config(config) if checkpoint_layouts.is_official(folder) else None
    shape = checkpoint_layouts.shape_of(folder, tower_config, options)
    if config.image_processor == "siglip":
        shape.vision_config.vision_use_head = False  # see tower  # type: ignore[union-attr]
        names = {name: there for name, there in names.items() if not name.startswith(f"{TOWER}head.")}
    with init_empty_weights(include_buffers=False):
        model = LlavaForConditionalGeneration(shape)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shape.tie_word_embeddings:
        wanted.pop("lm_head.weight")
    lacking = wanted.keys() - names.keys()
    of_tower = {name for name in lacking if name.startswith(TOWER)}
    has_tower = any(name.startswith(TOWER) for name in names)
    missing = lacking - (_behind_features(of_tower, shape) if has_tower else of_tower)
    unexpected = names.keys() - wanted.keys() - {"lm_head.weight"}
    other = [name for name in names.keys() & wanted.keys() if stored.shapes[names[name]] != wanted[name]]
    for what, found in {"missing": missing, "unexpected": unexpected, "of another shape": other}.items():
        if found:
            raise UserError(f"model.lvlm={config.lvlm}: incomplete or of another kind: {what} {some(found)}")
    state = {name: stored[there].to(dtype) for name, there in names.items() if name in wanted}
    if of_tower:
        beside = tower(config, dtype).state_dict()
        state |= {name: beside[name.removeprefix(TOWER)] for name in of_tower}
    model.load_state_dict(state, assign=True, strict=False)
    model.tie_weights()
    return model


def _tower_config(config: ModelConfig) -> PreTrainedConfig:
    """The configuration of `model.vision_tower`."""
    folder = resolve_checkpoint("model.vision_tower", config.vision_tower, weights=False)
    try:
        return TOWERS[config.image_processor].config_class.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.vision_tower={config.vision_tower}: config.json cannot be read: {reason}") from None


def _behind_features(names: Iterable[str], shape: LlavaConfig) -> set[str]:
    """Those of a tower's tensors that its feature layer does not depend on."""
    eye: Any = shape.vision_config
    first = eye.num_hidden_layers + shape.vision_feature_layer + 1  # -2 of 24 layers: layer 23

    def unused(name: str) -> bool:
        layer = name.partition("encoder.layers.")[2].partition(".")[0]
        return int(layer) >= first if layer else name.startswith(f"{TOWER}post_layernorm.")

    return {name for name in names if unused(name)}
