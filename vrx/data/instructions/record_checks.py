"""Checks of one record of instruction data: nothing in it may be dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.data.instructions.chat_templates import IMAGE_TAG

MEANT_KEYS = ("id", "image", "conversations", "model")  # of a record, LLaVA's
# Keys that say where a record comes from. Any other might mean what would be dropped in silence, such as a video.
ORIGIN_KEYS = ("source", "dataset", "data_source", "width", "height", "type", "task", "category", "metadata")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
HALF_PAIR = "half of a UTF-16 pair is missing, see its \\ud800 to \\udfff"

Invalid = Callable[[str, str], UserError]  # (key, reason) -> the error that names the file and the record


def refuse_unknown(record: Mapping[str, Any], invalid: Invalid) -> None:
    """Refuse a record with a key that is not known, unless it is null."""
    keys = (key for key in record if record[key] is not None and key not in (*MEANT_KEYS, *ORIGIN_KEYS))
    for key in keys:
        shown = ascii(key)[1:-1] if has_lone_surrogate(key) else key
        raise invalid(shown, f"a key of no meaning here; valid are {', '.join(MEANT_KEYS)}")


def has_lone_surrogate(text: str) -> bool:
    """Whether a text has half of a UTF-16 pair, which no file can hold."""
    return not text.isascii() and LONE_SURROGATE.search(text) is not None


def refuse_unreadable_texts(value: Any, key: str = "row") -> None:
    """Refuse a text with half of a UTF-16 pair, wherever it is in a JSON value: `UserError` names the key."""
    if isinstance(value, str) and has_lone_surrogate(value):
        raise UserError(f"{key}: {HALF_PAIR}")
    if isinstance(value, dict):
        for name, part in value.items():
            refuse_unreadable_texts(name, "a key")
            refuse_unreadable_texts(part, str(name))
    if isinstance(value, list):
        for part in value:
            refuse_unreadable_texts(part, key)


def check_image(image: Any, num_tags: int, invalid: Invalid) -> None:
    """Refuse an image that is no path inside the image folder, or that has several tags, `num_tags`."""
    if image is None:
        return
    if not isinstance(image, str) or not image:
        raise invalid("image", f"is {image!r}, must be one path")
    check_image_path(image, "image", invalid)
    if num_tags > 1:
        raise invalid("conversations", f"{num_tags} {IMAGE_TAG} tags for one image")


def check_image_path(path: str, key: str, invalid: Invalid) -> None:
    """Refuse the path of an image that no file has, or that leaves the image folder.

    Whether an absolute path lies in the image folder is seen when that is known.
    """
    if has_lone_surrogate(path) or "\0" in path:
        raise invalid(key, f"is {path!a}, which no file is called")
    if Path(path).is_absolute():
        return
    try:
        inside(Path("image_folder"), path)
    except UserError as error:
        raise invalid(key, str(error)) from None
