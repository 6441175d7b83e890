"""TextVQA with OCR tokens in the question. Official `TextVQA_0.5.1_val.json`, its Rosetta tokens or LLaVA's question
file beside it; or lmms-lab/textvqa."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vrx.evaluation.dataset_source import Item, Source, read_json, read_lines

REFERENCE = "Reference OCR token:"


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Ten references a question; the tokens, in the order they were found, are the question's second line."""
    split = source.split or "validation"
    split = {"validation": "val"}.get(split, split)
    files = source.of_split("TextVQA_*_{}.json", split)
    told = _told(source, split) if files else {}
    for item in source.items(read_json(files[0])["data"]) if files else source.hub():
        image, question = item.text("image_id"), item.text("question")
        answers = item.texts("answers")
        if told is None or not files:
            text = _with_tokens(question, item["ocr_tokens"])
        else:
            key = (image, question.lower()) if (image, question.lower()) in told else (image, "")
            if key not in told:
                raise item.refuse("image_id", f"{image} has no OCR tokens")
            text = told[key] if isinstance(told[key], str) else _with_tokens(question, told[key])
        picture = f"{image}.jpg" if files else source.keep(item, image)
        yield {"id": item.text("question_id"), "image": picture, "question": text, "answers": answers}


def _told(source: Source, split: str) -> dict[tuple[str, str], Any] | None:
    """By image the tokens, or by image and question in small letters LLaVA's question; None where neither is there."""
    if files := source.beside(f"*textvqa_{split}_*ocr.jsonl*"):
        found = {}
        for item in source.items(read_lines(files[0])):
            question, _, _ = item.text("text").rpartition("\n")  # the last line is the prompt's
            found[item.text("question_id"), _bare(question).lower()] = question
        return found
    if files := source.beside(f"TextVQA_Rosetta_OCR_*_{split}.json"):
        return {(item.text("image_id"), ""): item["ocr_tokens"] for item in _data(source, read_json(files[0]))}
    return None


def _data(source: Source, told: Any) -> Iterator[Item]:
    return source.items(told["data"], of="OCR")


def _bare(question: str) -> str:
    lines = question.split("\n")
    return "\n".join(line for line in lines if not line.startswith(REFERENCE))


def _with_tokens(question: str, tokens: list[str]) -> str:
    """The question as LLaVA's file has it, first letter capital."""
    return f"{question[:1].upper()}{question[1:]}\n{REFERENCE} {', '.join(tokens)}"
