"""TDIUC: questions of twelve types. Official `…_val2014_questions.json` and `…val2014_annotations.json`, and the answer
key `*answerkey*.csv` if present: rows of an answer and its number."""

from __future__ import annotations

from collections.abc import Iterator

from vrx.evaluation.dataset_files import read_table
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow

ABSURD = "absurd"  # questions about things that are not in the picture, which the paper's authors leave out
COLUMNS = ["answer", "number"]  # of the answer key
OUTSIDE = "(not in the answer key)"


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """Questions of eleven types: all but the absurd ones.

    With an answer key, `choices` holds the reference if the key has it, else `OUTSIDE`.
    """
    files = source.find_files(f"*{source.split}2014_questions.json")
    annotations = source.find_beside(f"*{source.split}2014_annotations.json")
    if not files or not annotations:
        wanted = (f"*{source.split}2014_questions.json", f"*{source.split}2014_annotations.json")
        raise source.missing_files(*wanted)
    annotations_by_id = {
        item.whole("question_id"): item for item in source.records(annotations[0], "annotations", of="annotations")
    }
    key = _answer_key(source)
    for item in source.records(files[0], "questions"):
        number = item.whole("question_id")
        if number not in annotations_by_id:
            raise item.error("question_id", f"{number} is not in {annotations[0].name}")
        (annotation,) = source.items([annotations_by_id[number]], of=f"question {number},")
        if annotation.text("question_type") == ABSURD:
            continue
        answers = annotation["answers"]
        if not isinstance(answers, list) or not answers:
            raise annotation.error("answers", f"is {ascii(answers)[:60]}, must be a list of at least one")
        (first,) = source.items(answers[:1], of=f"question {number}, answer,")
        gold = first.text("answer")
        yield {
            "id": str(number),
            "image": f"COCO_{source.split}2014_{item.whole('image_id'):012d}.jpg",
            "question": item.text("question"),
            "answers": [gold],
            "choices": [gold if gold in key else OUTSIDE] if key else None,
            "question_type": annotation.text("question_type"),
        }


def _answer_key(source: Source) -> set[str]:
    """The answers of the official answer key; empty without a key file."""
    files = source.find_beside("*answerkey*.csv", "*answer_key*.csv")
    return {item.text("answer") for path in files[:1] for item in source.items(read_table(path, columns=COLUMNS))}
