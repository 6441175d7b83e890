"""Boxes in generated text: three published ways to parse one, and intersection over union.

Nothing here raises on any text. The official patterns of conv-llava and Qwen-VL can backtrack for hours on a
long run of brackets and commas; their matches are found here by splitting, in linear time and with the same
result. A text without a readable box gives None; officially it is (0, 0, 0, 0), whose IoU is 0 just the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from vrx.config.errors import UserError
from vrx.metrics.answer import Answer

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
_NUMBER = r"(-?\d+(?:\.\d+)?)"
MAX_TEXT = 10_000  # characters of an answer that are searched for a box
LOC_BINS = 1024
_ANY_BOX = re.compile(rf"[\[(]{_NUMBER},\s?{_NUMBER}\)?,\s?\(?{_NUMBER},\s?{_NUMBER}[\])]")
_LOC_TOKENS = re.compile(r"<loc(\d{4})>" * 4)
_NORMALISED_BOX = re.compile(rf"\[\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\s*\]")


def float32(value: float) -> float:
    """The nearest single-precision number: the official scorers compute in it, which can decide at IoU 0.5."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def gold(answer: Answer) -> tuple[Box, tuple[int, int]]:
    """The gold box of an answer and the size of its image, in pixels."""
    if answer.box is None or answer.image_size is None:
        raise UserError(f"answer {answer.id!r} lacks box or image_size; grounding metrics take both")
    return answer.box, answer.image_size


def iou(a: Box | None, b: Box, rounded: Callable[[float], float] = float) -> float:
    """Intersection over union of two boxes, in [0, 1]; 0 if the first is None.

    `rounded` is applied after every operation. As in the official scorers nothing is sorted or clamped first,
    so a box with reversed corners meets nothing. Two boxes without area give 0 (officially an error, or NaN).
    """
    if a is None:
        return 0.0

    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return rounded(rounded(x2 - x1) * rounded(y2 - y1))

    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    intersection = area(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else 0.0
    union = rounded(rounded(area(*a) + area(*b)) - intersection)
    if not (intersection > 0 and union > 0):  # also where a coordinate is NaN
        return 0.0
    return min(1.0, rounded(intersection / union))


def iou_in_pixels(a: Box | None, b: Box) -> float:
    """`iou` in single precision throughout, as conv-llava and Qwen-VL compute it from pixel boxes."""
    x1, y1, x2, y2 = map(float32, b)
    return iou(a, (x1, y1, x2, y2), rounded=float32)


def read_normalised(text: str) -> Box | None:
    """The first `[x1, y1, x2, y2]` of plain decimals in the text (lmms-eval).

    Blanks may follow a bracket or a comma but not precede a comma; ".5", "+1" and "1e-1" are not plain.
    """
    match = _NORMALISED_BOX.search(text)
    return _floats(list(match.groups())) if match else None


def read_padded(text: str, image_size: tuple[int, int]) -> Box | None:
    """Pixels of `[x1, y1, x2, y2]` read relative to the image padded to a square, LLaVA's frame (conv-llava).

    Only the first bracket with three commas and then a closing bracket on its line is considered: if its
    parts are not four numbers there is no box, even when a good one follows. Coordinates that add up to 4 or
    more are thousandths. The image sits in the middle of the square, an odd pixel of padding at the far side.
    """
    for line in text.split("\n"):
        _, bracket, rest = line.partition("[")
        parts = rest.lstrip("[").split(",", 3)
        if not bracket or len(parts) < 4 or "]" not in parts[3]:
            continue
        parts[3] = parts[3].split("]", 1)[0]
        box = _floats(parts)
        if box is None:
            return None
        width, height = image_size
        side, shift_x, shift_y = max(width, height), max(0, height - width) // 2, max(0, width - height) // 2
        relative = [float32(value) for value in box]
        if float32(sum(relative)) >= 4:
            relative = [float32(value / 1000) for value in relative]
        x1, y1, x2, y2 = (float32(value * side) for value in relative)
        return float32(x1 - shift_x), float32(y1 - shift_y), float32(x2 - shift_x), float32(y2 - shift_y)
    return None


def read_qwen(text: str, image_size: tuple[int, int]) -> Box | None:
    """Pixels of the first `(x1,y1),(x2,y2)` in 0-999, the format of Qwen-VL's `<box>`."""
    for line in text.split("\n"):
        start = line.find("(")
        middle = line.find("),(", start + 1)
        end = line.find(")", middle + 3)
        if min(start, middle, end) < 0:
            continue
        first, second = line[start + 1 : middle].split(","), line[middle + 3 : end].split(",")
        box = _floats(first + second) if len(first) == len(second) == 2 else None
        if box is None:
            return None
        width, height = image_size
        x1, y1, x2, y2 = (float32(float32(value) / 999) for value in box)
        return float32(x1 * width), float32(y1 * height), float32(x2 * width), float32(y2 * height)
    return None


def read_in_frame(text: str, frame: tuple[float, float]) -> Box | None:
    """The first box of a text, relative to the image; frame: (width, height) of the image in the text's coordinates.

    A box is four numbers in brackets, or two pairs: `[x1, y1, x2, y2]` (Qwen2.5-VL, Qwen3-VL, InternVL) or
    `(x1,y1),(x2,y2)` (Qwen2-VL).
    """
    match = _ANY_BOX.search(text[:MAX_TEXT])
    if match is None or not min(frame) > 0:
        return None
    x1, y1, x2, y2 = map(float, match.groups())
    width, height = frame
    return x1 / width, y1 / height, x2 / width, y2 / height


def read_loc_tokens(text: str) -> Box | None:
    """The first four `<locNNNN>` of a text: top, left, bottom and right in 1024ths of the image (PaliGemma)."""
    match = _LOC_TOKENS.search(text)
    if match is None:
        return None
    y1, x1, y2, x2 = (int(part) / LOC_BINS for part in match.groups())
    return x1, y1, x2, y2


def _floats(parts: list[str]) -> Box | None:
    try:
        x1, y1, x2, y2 = (float(part) for part in parts)
    except ValueError:
        return None
    return x1, y1, x2, y2
