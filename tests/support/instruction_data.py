"""Valid instruction data in LLaVA's format, and its conversion to a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings

from vrx.config.schema import InstructionsConfig
from vrx.data.instructions.instruction_dataset import build_table, data_digest

Make = Callable[..., InstructionsConfig]
unhurried = settings(deadline=None, derandomize=True)  # reproducible, and independent of the machine's load


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


SEEN = {"id": "seen", "image": "a/red.png", "conversations": talk("<image>\nWhat colour?", "Red.")}
TOLD = {"id": 7, "conversations": talk("Two and two?", "Four.", "And two?", "Six.")}
GOOD = [
    SEEN,
    TOLD,
    {**SEEN, "id": "model", "model": "tells which LVLM it is from"},  # as in LLaVA's mix
    {"conversations": talk("no id", "and no image")},
    {"id": "null", "image": None, "conversations": talk("An image that is null", "is none.")},
    {"id": "empty", "conversations": talk("An early answer may be empty:", "", "and then?", "Not this one.")},
    {"id": "tag in a sentence", "conversations": talk("What does <image> mean in HTML?", "Nothing: it is <img>.")},
    {"id": "no tag", "image": "a/red.png", "conversations": talk("Never looks.", "True.")},
    {"id": "ünïcödé \u2028", "image": "a/красный.png", "conversations": talk("<image>\n色は？", "赤。\n\u2028")},
    {"id": "late tag", "image": "a/red.png", "conversations": talk("Look:", "Where?", "Here: <image>", "Red.")},
    {"id": "weight", "conversations": [{**turn, "weight": 1} for turn in talk("More keys", "are let through.")]},
]


def make_table(config: InstructionsConfig, cache: Path) -> Path:
    return build_table(config, cache, digest=data_digest(config))


def first(**changes: Any) -> list[dict[str, Any]]:
    """Valid records around a second one with changes; a key set to `...` is removed."""
    record = {key: value for key, value in {**SEEN, "id": "bad", **changes}.items() if value is not ...}
    return [SEEN, record, TOLD]
