"""The size of the images that an image processor makes, from its settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrx.config.errors import UserError

PREPROCESSOR = "preprocessor_config.json"  # beside a vision tower
CROPPING = ("clip", "dinov2")  # scale the shorter side, then crop; SigLIP's processor scales both sides
MAX_SIDE = 1 << 14
DEFAULT_SIDE = 224  # of all three processors in transformers


def processed_size(settings: Mapping[str, Any], processor: str, *, is_padded: bool, source: str) -> tuple[int, int]:
    """Height and width in pixels of a processed image.

    settings: the content of `preprocessor_config.json`; processor: `model.image_processor`; is_padded: whether images
    are padded to a square before; source: names the file in errors. `UserError` where the size would differ from image
    to image.
    """
    is_cropped = processor in CROPPING and settings.get("do_center_crop", True)
    size = settings.get("crop_size" if is_cropped else "size") or DEFAULT_SIDE
    if not _is_size(size):
        raise UserError(f"{source}: size or crop_size is {str(size)[:60]}; valid are pixels from 1 to {MAX_SIDE}")
    if isinstance(size, int):
        is_shorter_side = processor in CROPPING and not is_cropped
        size = {"shortest_edge": size} if is_shorter_side else {"height": size, "width": size}
    if "height" in size:
        return size["height"], size["width"]
    if not is_padded:
        raise UserError(
            f"{source}: without do_center_crop images differ in size; valid with model.image_aspect_ratio=pad"
        )
    return size["shortest_edge"], size["shortest_edge"]


def _is_size(size: Any) -> bool:
    if isinstance(size, dict):
        sides = [size[key] for key in ("height", "width", "shortest_edge") if size.get(key) is not None]
        is_whole = {"height", "width"} <= size.keys() or "shortest_edge" in size
        return is_whole and all(isinstance(side, int) and _is_size(side) for side in sides)
    return isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MAX_SIDE
