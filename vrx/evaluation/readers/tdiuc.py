"""TDIUC: questions of twelve types. Official `…_val2014_questions.json` and `…val2014_annotations.json`, and the answer
key `*answerkey*.csv` where it is there: rows of an answer and its number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vrx.evaluation.dataset_source import Source, read_json, read_table

ABSURD = "absurd"  # questions about what is not in the picture, which the authors leave out
COLUMNS = ["answer", "number"]  # of the answer key
OUTSIDE = "(not in the answer key)"


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Questions with their type; the absurd ones left out, so eleven types remain.

    `choices` is what the answer key has of a question's answer: the answer, or that it is not in there.
    """
    files = source.official(f"*{source.split}2014_questions.json")
    annotations = source.beside(f"*{source.split}2014_annotations.json")
    if not files or not annotations:
        wanted = (f"*{source.split}2014_questions.json", f"*{source.split}2014_annotations.json")
        raise source.nothing(*wanted)
    found = {row["question_id"]: row for row in read_json(annotations[0])["annotations"]}
    key = _answer_key(source)
    for item in source.items(read_json(files[0])["questions"]):
        if item["question_id"] not in found:
            raise item.refuse("question_id", f"{item['question_id']} is not in {annotations[0].name}")
        (annotation,) = source.items([found[item["question_id"]]], of=f"question {item['question_id']},")
        if annotation["question_type"] == ABSURD:
            continue
        answers = annotation["answers"]
        if not isinstance(answers, list) or not answers:
            raise annotation.refuse("answers", f"is {answers!r}, must be a list of at least one")
        (first,) = source.items(answers[:1], of=f"question {item['question_id']}, answer,")
        gold = first.text("answer")
        yield {
            "id": item.text("question_id"),
            "image": f"COCO_{source.split}2014_{int(item['image_id']):012d}.jpg",
            "question": item.text("question"),
            "answers": [gold],
            "choices": [gold if gold in key else OUTSIDE] if key else None,
            "question_type": annotation.text("question_type"),
        }


def _answer_key(source: Source) -> set[str]:
    """The answers that the official script knows; empty where there is no key."""
    files = source.beside("*answerkey*.csv", "*answer_key*.csv")
    return {item.text("answer") for path in files[:1] for item in source.items(read_table(path, columns=COLUMNS))}
