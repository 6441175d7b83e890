"""TDIUC: questions of twelve types. Official `…_val2014_questions.json` and `…val2014_annotations.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vrx.sources import Source, read_json

ABSURD = "absurd"  # questions about what is not in the picture, which the authors leave out


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Questions with their type; the absurd ones left out, so eleven types remain."""
    files = source.official(f"*{source.split}2014_questions.json")
    annotations = source.beside(f"*{source.split}2014_annotations.json")
    if not files or not annotations:
        wanted = (f"*{source.split}2014_questions.json", f"*{source.split}2014_annotations.json")
        raise source.nothing(*wanted)
    found = {row["question_id"]: row for row in read_json(annotations[0])["annotations"]}
    for item in source.items(read_json(files[0])["questions"]):
        if item["question_id"] not in found:
            raise item.refuse("question_id", f"{item['question_id']} is not in {annotations[0].name}")
        (annotation,) = source.items([found[item["question_id"]]], of=f"question {item['question_id']},")
        if annotation["question_type"] == ABSURD:
            continue
        if not annotation["answers"]:
            raise annotation.refuse("answers", "is empty")
        yield {
            "id": item.text("question_id"),
            "image": f"COCO_{source.split}2014_{int(item['image_id']):012d}.jpg",
            "question": item.text("question"),
            "answers": [str(annotation["answers"][0]["answer"])],
            "question_type": annotation.text("question_type"),
        }
