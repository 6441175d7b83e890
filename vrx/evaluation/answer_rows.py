"""One line of a prediction file as an answer: every field is of its type, or the line is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from vrx.metrics.answer import FIELDS, Answer


def parse_answer(line: bytes) -> Answer:
    """The answer of one line; `ValueError` for a line that was cut or holds another form.

    Keys that `Answer` does not have are ignored, as a newer version may write them.
    """
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(row, dict) or not {"id", "text", "references"} <= row.keys():
        raise ValueError("an answer is an object with id, text and references")
    values: dict[str, Any] = {name: value for name, value in row.items() if name in FIELDS}
    for name, value in values.items():
        if not FORMS[name](value):
            raise ValueError(f"{name} of an answer is of another type: {value!r:.60}")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Answer(**{**values, **lists})


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    value.encode()  # a lone surrogate is a UnicodeEncodeError, a ValueError
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _list_of(is_part: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == (length or len(value)) and all(map(is_part, value))


def _or_null(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "text", "question_type", "group"), _is_text),
    "references": _list_of(_is_text),
    "choices": _list_of(_or_null(_is_text)),
    "box_frame": _or_null(_list_of(_is_number, 2)),
    "image_size": _or_null(_list_of(_is_number, 2)),
    "box": _or_null(_list_of(_is_number, 4)),
    "choice_log_probs": _list_of(_is_number),
    "log_likelihood": _or_null(_is_number),
    **dict.fromkeys(("num_tokens", "num_words", "num_bytes"), _is_count),
}
assert set(FORMS) == set(FIELDS), "every field of an answer has a form"
