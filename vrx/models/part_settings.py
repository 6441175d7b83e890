"""What `config.json` says of a part of an LVLM: sizes within bounds, and settings of LLaVA's and Bunny's own code.

A setting that would change what the model computes, and that this program does not obey, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vrx.config.bounds import MAX_LAYERS
from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.runs.files import read_json_object

BACKBONE_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
TOWER_SIZES = ("hidden_size", "num_hidden_layers", "image_size", "patch_size")
BOUNDS = {  # of sizes, wherever they are given
    "hidden_size": (1, 1 << 18),
    "num_hidden_layers": (1, MAX_LAYERS),
    "num_attention_heads": (1, 1 << 14),
    "num_key_value_heads": (1, 1 << 14),
    "head_dim": (1, 1 << 14),
    "vocab_size": (1, 1 << 24),
    "intermediate_size": (1, 1 << 20),
    "image_size": (1, 1 << 14),
    "patch_size": (1, 1 << 12),
    "mlp_ratio": (1, 1 << 10),
}
DEFAULTS: dict[str, dict[str, int]] = {  # of transformers, for sizes that a config.json leaves out, by model_type
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    "clip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "image_size": 224,
        "patch_size": 32,
    },
    "siglip_vision_model": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "image_size": 224,
        "patch_size": 16,
    },
}
# Settings of the official code by the values that are obeyed; None stands for a setting that is not there.
OBEYED: dict[str, tuple[object, ...]] = {
    "mm_projector_type": ("mlp2x_gelu", None),
    "mm_use_im_start_end": (False, None),
    "mm_use_im_patch_token": (False, None),
    "mm_patch_merge_type": ("flat", None),
    "mm_vision_select_feature": ("patch", "cls_patch", None),
    "image_aspect_ratio": ("pad", "square", None),
    "use_s2": (False, None),
}
DESCRIPTIVE = ("mm_hidden_size", "mm_vision_tower", "mm_projector_lr", "mm_vision_tower_lr", "mm_vision_select_layer")
MULTIMODAL = ("mm_", "image_")  # the beginnings of settings that might mean more; null, false and empty ones do not
SELECTED = {"patch": "default", "cls_patch": "full"}  # mm_vision_select_feature -> model.vision_feature_select_strategy


def require_sizes(config: Mapping[str, Any], required: tuple[str, ...], source: Path) -> None:
    """Refuse a configuration that lacks a size, or has one that no model has: `UserError` with the file and the key."""
    for name in required:
        if config.get(name) is None and not (name == "intermediate_size" and "mlp_ratio" in config):
            raise UserError(f"{source}: {name} is missing")
    for name, (low, high) in BOUNDS.items():
        value = config.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            raise UserError(f"{source}: {name}={str(value)[:40]}: must be a whole number between {low} and {high}")


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the sizes that it leaves out."""
    return {**DEFAULTS.get(str(config.get("model_type")), {}), **config}


def require_obeyed(
    settings: Mapping[str, Any], model: ModelConfig, source: Path, *, is_projector: bool = False
) -> None:
    """Refuse settings of the official code that are not obeyed: `UserError` with the file and the key.

    is_projector: of the first training stage, whose pictures need not be padded as those of the second.
    """
    for name, values in OBEYED.items():
        if settings.get(name) not in values:
            valid = ", ".join(str(value) for value in values if value is not None)
            raise UserError(f"{source}: {name}={settings[name]}: valid is {valid}")
    for name, value in settings.items():
        if name.startswith(MULTIMODAL) and value and name not in (*OBEYED, *DESCRIPTIVE):
            raise UserError(f"{source}: {name}={str(value)[:60]}: a setting of no meaning here; valid is null")
    layer = settings.get("mm_vision_select_layer")
    if layer is not None and layer != model.vision_feature_layer:
        raise UserError(
            f"model.vision_feature_layer={model.vision_feature_layer}: {source.parent} was made with {layer}"
        )
    strategy = SELECTED.get(str(settings.get("mm_vision_select_feature")))
    if model.image_processor == "clip" and strategy not in (None, model.vision_feature_select_strategy):
        raise UserError(
            f"model.vision_feature_select_strategy={model.vision_feature_select_strategy}: {source.parent} was made "
            f"with {strategy} (mm_vision_select_feature={settings['mm_vision_select_feature']})"
        )
    ratio = settings.get("image_aspect_ratio")
    if ratio not in (None, model.image_aspect_ratio) and not is_projector:
        raise UserError(f"model.image_aspect_ratio={model.image_aspect_ratio}: {source.parent} was made with {ratio}")


def require_obeyed_in(folder: Path, model: ModelConfig, *, is_projector: bool = False) -> None:
    """As `require_obeyed`, for the `config.json` of a folder that has one."""
    if (folder / "config.json").is_file():
        require_obeyed(
            read_json_object(folder / "config.json"), model, folder / "config.json", is_projector=is_projector
        )
