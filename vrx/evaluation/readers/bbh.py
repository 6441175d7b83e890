"""BIG-bench-Hard: 27 tasks. Official `bbh/*.json`, or lukaemon/bbh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vrx.config.errors import UserError
from vrx.evaluation.dataset_source import Item, Source, read_json


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Questions with their task; options that stand in a question are told apart for lenient scoring."""
    files = source.official("*.json")
    if files:
        source.must_be("split", "test")
    for path in files:
        told = read_json(path)
        if not isinstance(told, dict) or "examples" not in told:
            raise UserError(f"{source.key}: {path}: column examples is missing")
        for number, item in enumerate(source.items(told["examples"], of=path.stem)):
            yield _row(item, path.stem, number)
    for task in () if files else [source.subset] if source.subset else source.subsets():
        for number, item in enumerate(source.hub(subset=task)):
            yield _row(item, str(task), number)


def _row(item: Item, task: str, number: int) -> dict[str, Any]:
    options = re.findall(r"^\([A-Z]\) (.*)$", item.text("input"), re.MULTILINE)
    told = {"id": f"{task}_{number}", "question": item.text("input"), "answers": [item.text("target")]}
    return {**told, "question_type": task, "choices": options or None}
