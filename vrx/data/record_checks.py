"""Checks of one record of instruction data: nothing in it may be dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.data.chat_templates import IMAGE_TAG

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


def check_image(image: Any, texts: Sequence[str], num_tags: int, invalid: Invalid) -> None:
    """Refuse an image that is no path inside the image folder, or whose tags do not fit.

    texts: of all turns. num_tags: image tags in those that count.
    """
    if image is None:
        if any(text.strip().startswith(IMAGE_TAG) or text.strip().endswith(IMAGE_TAG) for text in texts):
            raise invalid("image", f"missing, but the conversation has an {IMAGE_TAG} tag")
        return
    if not isinstance(image, str) or not image:
        raise invalid("image", f"is {image!r}, must be one path")
    if has_lone_surrogate(image) or "\0" in image:
        raise invalid("image", f"is {image!a}, which no file is called")
    if num_tags > 1:
        raise invalid("conversations", f"{num_tags} {IMAGE_TAG} tags for one image")
    try:
        inside(Path("image_folder"), image)
    except ValueError as error:
        raise invalid("image", str(error)) from None
