"""ScienceQA: choices from school lessons. Official `problems.json` and `pid_splits.json`, LLaVA's `*_CQM-A.json`, or
lmms-lab/ScienceQA."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vrx.config.errors import UserError
from vrx.evaluation.dataset_files import read_json
from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import MultipleChoiceRow

WITH_IMAGES, ALL = "ScienceQA-IMG", "ScienceQA-FULL"  # subsets; the paper counts questions with an image


def rows(source: Source) -> Iterator[MultipleChoiceRow]:
    """Questions of a split, by default those with an image (2,017 of 4,241 in the test split)."""
    source.require("subset", WITH_IMAGES, ALL)
    for row in _split_rows(source):
        if row.get("image") or source.subset == ALL:
            yield row


def _split_rows(source: Source) -> Iterator[MultipleChoiceRow]:
    if files := source.find_files("problems.json"):
        problems, split = source.document(files[0]), source.split or "test"
        splits = source.find_beside("pid_splits.json")
        if not splits:
            raise source.missing_files("pid_splits.json")
        chosen = source.document(splits[0])
        if split not in chosen:
            raise UserError(f"{source.key}.split={split}: valid are {', '.join(chosen)}")
        numbers = chosen.texts(split, at_least=0)
        for number, item in zip(numbers, source.items(problems[number] for number in numbers), strict=True):
            image = f"{item.text('split')}/{number}/{item.text('image')}" if item["image"] else None
            yield _problem(item, number, image)
    elif files := source.find_split_files("*_{}_CQM-A.json*", str(source.split)):
        for item in source.items(read_json(files[0])):
            yield _conversation(item)
    else:
        for number, item in enumerate(source.hub_items()):
            yield _problem(item, str(number), source.save_image(item, str(number)) if item["image"] else None)


def _problem(item: Item, name: str, image: str | None) -> MultipleChoiceRow:
    choices = item.texts("choices")
    return {
        "id": name,
        "image": image,
        "hint": item.optional_text("hint"),
        "question": item.text("question"),
        "choices": choices,
        "answer": item.letter("answer", len(choices)),
        "question_type": item.optional_text("subject") or "",
    }


def _conversation(item: Item) -> MultipleChoiceRow:
    """A row of LLaVA's file, where hint, question and options are one text; the hint stays part of the question."""
    turns = item.items("conversations")
    if len(turns) < 2:
        raise item.error("conversations", f"has {len(turns)} turns, must have a question and its answer")
    prompt, answer = (turn.text("value") for turn in turns[:2])
    text = prompt.removeprefix("<image>\n").removesuffix("\n<image>")
    starts = [match.start() for match in re.finditer(r"^A\. ", text, re.MULTILINE)]
    if not starts:
        raise item.error("conversations", "has no options")
    question, options = text[: starts[-1]].removesuffix("\n"), text[starts[-1] :]
    choices = re.split(r"(?:^|\n)[A-Z]\. ", options)[1:]
    image = item.optional_text("image")
    return {"id": item.text("id"), "image": image, "question": question, "choices": choices, "answer": answer}
