"""Whether the parts of an LVLM fit together, from their small files alone, so that no weights are loaded in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.images.size import PREPROCESSOR, processed_size
from vrx.models.architecture import part_config
from vrx.models.file_names import PROJECTOR_FILE
from vrx.models.native_facts import require_native
from vrx.runs.files import read_json_object
from vrx.runs.hub import cached_checkpoint

INTERPOLATING = "dinov2"  # the tower that takes images of any size; the positions of others are fixed
WITH_CLASS_TOKEN = ("clip", "dinov2")

Shapes = dict[str, tuple[int, ...]]


def require_fit(model: ModelConfig) -> None:
    """Refuse parts that do not fit: `UserError` with the key and what is valid. Parts not on this machine are skipped.

    Checked are the kind of the tower, its feature layer, the size of its images, the number of image tokens, and the
    widths of a projector that is a safetensors file.
    """
    if not model.is_assembled:
        require_native(model)
        return
    tower = part_config(model.vision_tower, "vision_config")
    folder = cached_checkpoint(model.vision_tower)
    if tower is not None:
        _require_tower(model, tower)
        if folder is not None:
            _require_image_tokens(model, tower, folder)
    if model.lvlm is None and (shapes := _stored_projector(model.projector)) is not None:
        require_projector(model, shapes)


def require_projector(model: ModelConfig, stored: Shapes, *, source: str | None = None) -> None:
    """Refuse a projector whose tensors are not those that tower and backbone need; source: its folder."""
    needed = projector_shapes(model)
    if needed is not None and needed != stored:
        raise UserError(
            f"model.projector={source or model.projector}: has {stored}, this tower and backbone need {needed}"
        )


def projector_shapes(model: ModelConfig) -> Shapes | None:
    """The shapes of the tensors of the projector between tower and backbone; None where a part is unknown."""
    tower, backbone = part_config(model.vision_tower, "vision_config"), part_config(model.backbone, "text_config")
    if tower is None or backbone is None:
        return None
    inputs, hidden = tower["hidden_size"], backbone["hidden_size"]
    return {
        "linear_1.weight": (hidden, inputs),
        "linear_1.bias": (hidden,),
        "linear_2.weight": (hidden, hidden),
        "linear_2.bias": (hidden,),
    }


def _require_tower(model: ModelConfig, tower: dict[str, Any]) -> None:
    kind = str(tower.get("model_type", model.image_processor)).removesuffix("_vision_model")
    if kind != model.image_processor:
        raise UserError(
            f"model.image_processor={model.image_processor}: {model.vision_tower} is a tower of type {kind}"
        )
    depth, layer = tower["num_hidden_layers"], model.vision_feature_layer
    if not -depth - 1 <= layer <= depth:
        raise UserError(
            f"model.vision_feature_layer={layer}: valid are {-depth - 1} to {depth} for the {depth} layers of "
            f"{model.vision_tower}"
        )


def _require_image_tokens(model: ModelConfig, tower: dict[str, Any], folder: Path) -> None:
    if not (folder / PREPROCESSOR).is_file():
        raise UserError(f"model.vision_tower={model.vision_tower}: has no {PREPROCESSOR}")
    source = f"model.vision_tower={model.vision_tower}: {PREPROCESSOR}"
    is_padded = model.image_aspect_ratio == "pad"
    height, width = processed_size(
        read_json_object(folder / PREPROCESSOR), model.image_processor, is_padded=is_padded, source=source
    )
    side, patch = tower["image_size"], tower["patch_size"]
    if model.image_processor != INTERPOLATING and (height, width) != (side, side):
        raise UserError(f"{source} makes images of {height} x {width} pixels, the tower takes {side} x {side}")
    tokens = (height // patch) * (width // patch)
    tokens += (model.image_processor in WITH_CLASS_TOKEN) - (model.vision_feature_select_strategy == "default")
    if tokens != model.num_image_tokens:
        raise UserError(
            f"model.num_image_tokens={model.num_image_tokens}: {model.vision_tower} yields {tokens} for images of "
            f"{height} x {width} pixels, patches of {patch} and "
            f"model.vision_feature_select_strategy={model.vision_feature_select_strategy}"
        )


def _stored_projector(name: str) -> Shapes | None:
    folder = cached_checkpoint(name)
    path = folder / PROJECTOR_FILE if folder is not None else None
    if path is None or not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return None  # `read_projector` says what is wrong with it
