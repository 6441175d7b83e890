"""BIG-bench-Hard: 27 tasks. Official `bbh/*.json`, or lukaemon/bbh."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """Questions with their task; `choices` are the options that the question lists, for lenient scoring."""
    files = source.find_files("*.json")
    if files:
        source.require("split", "test")
    for path in files:
        for number, item in enumerate(source.records(path, "examples", of=path.stem)):
            yield _row(item, path.stem, number)
    for task in () if files else [source.subset] if source.subset else source.hub_subsets():
        for number, item in enumerate(source.hub_items(subset=task)):
            yield _row(item, str(task), number)


def _row(item: Item, task: str, number: int) -> ShortAnswerRow:
    options = re.findall(r"^\([A-Z]\) (.*)$", item.text("input"), re.MULTILINE)
    return {
        "id": f"{task}_{number}",
        "question": item.text("input"),
        "answers": [item.text("target")],
        "question_type": task,
        "choices": options or None,
    }
