"""MMLU: four choices in 57 subjects. Official `data/test/*_test.csv`, or cais/mmlu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vrx.sources import Source, read_table

COLUMNS = ["question", "A", "B", "C", "D", "answer"]
SHORT = {"validation": "val"}


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Questions with their subject; no shots, which a conversation does not have."""
    split = SHORT.get(source.split or "test", source.split or "test")
    files = source.official(f"*_{split}.csv")
    for path in files:
        subject = path.stem.removesuffix(f"_{split}")
        for number, item in enumerate(source.items(read_table(path, columns=COLUMNS), of=subject)):
            told = {"id": f"{subject}_{number}", "question": item.text("question"), "question_type": subject}
            yield {**told, "choices": [str(item[letter]) for letter in "ABCD"], "answer": item.text("answer")}
    for number, item in enumerate(() if files else source.hub()):
        choices = item.texts("choices")
        yield {
            "id": f"{item.text('subject')}_{number}",
            "question": item.text("question"),
            "choices": choices,
            "answer": item.letter("answer", len(choices)),
            "question_type": item.text("subject"),
        }
