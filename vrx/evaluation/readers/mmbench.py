"""MMBench: choices, each asked with its options rotated. Official table `*.tsv`, or lmms-lab/MMBench."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from vrx.config.errors import UserError
from vrx.evaluation.dataset_files import read_table
from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import MultipleChoiceRow

TURN = 1_000_000  # rotation k of question i has the index i + k * TURN


def rows(source: Source) -> Iterator[MultipleChoiceRow]:
    """Rotations are rows, of one group.

    Options end at the first that is missing, as in LLaVA's script, but an option before the right one, or that one
    itself, may be the word None.
    """
    files = source.find_files("*.tsv")
    pictures: dict[int, bytes] = {}
    splits = set()
    number = 0
    for item in source.items(read_table(files[0], delimiter="\t")) if files else source.hub_items():
        index = item.whole("index")
        splits.add(item.get("split") or source.split)
        if files:
            item["image"] = _picture(item, pictures)
            pictures[index] = item["image"]
        if source.split is not None and (item.get("split") or source.split) != source.split:
            continue
        choices, answer = [], item.text("answer")
        for letter in "ABCD":
            is_word = letter <= answer and isinstance(item[letter], str) and bool(item[letter].strip())
            if _missing(item[letter]) and not is_word:
                break
            choices.append(item.text(letter))
        number += 1
        yield {
            "id": str(index),
            "group": str(index % TURN),
            "image": source.save_image(item, str(index % TURN)),
            "hint": None if _missing(item["hint"]) else item.text("hint"),
            "question": item.text("question"),
            "choices": choices,
            "answer": answer,
            "question_type": item.optional_text("category") or "",
        }
    if not number:
        raise UserError(f"{source.key}.split={source.split}: valid are {', '.join(sorted(map(str, splits)))}")


def _missing(value: object) -> bool:
    return value is None or value != value or str(value).strip().lower() in ("", "nan", "none")


def _picture(item: Item, pictures: dict[int, bytes]) -> bytes:
    """The image of a row, in base64, or as the index of the row that holds it."""
    text = item.text("image")
    if text.isdigit() and int(text) in pictures:
        return pictures[int(text)]
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise item.error("image", f"is no base64: {error}") from None
