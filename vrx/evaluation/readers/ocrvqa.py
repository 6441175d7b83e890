"""OCR-VQA: questions about book covers. Official `dataset.json`, or howard-hou/OCR-VQA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow

SPLITS = {"train": 1, "validation": 2, "test": 3}


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """Several questions a book, each with one reference."""
    files = source.find_files("dataset.json")
    if not files:
        for item in source.hub_items():
            yield from _questions(item, item.text("image_id"), source.save_image(item, item.text("image_id")))
        return
    source.require("split", *SPLITS)
    for book, item in source.named_records(files[0]):
        if item.whole("split") == SPLITS[str(source.split)]:
            ending = PurePosixPath(item.text("imageURL")).suffix or ".jpg"
            yield from _questions(item, book, f"{book}{ending}")


def _questions(item: Item, book: str, image: str) -> Iterator[ShortAnswerRow]:
    questions, answers = item.texts("questions"), item.texts("answers")
    if len(questions) != len(answers):
        raise item.error("answers", f"has {len(answers)} for {len(questions)} questions")
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        yield {"id": f"{book}_{number}", "image": image, "question": question, "answers": [answer]}
