"""TextVQA with OCR tokens in the question. Official `TextVQA_0.5.1_val.json`, its Rosetta tokens or LLaVA's question
file beside it; or lmms-lab/textvqa."""

from __future__ import annotations

from collections.abc import Iterator

from vrx.evaluation.dataset_files import read_json_lines
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow

REFERENCE = "Reference OCR token:"


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """Questions with ten references; the OCR tokens, in their order, are the question's second line."""
    split = source.split or "validation"
    split = {"validation": "val"}.get(split, split)
    files = source.find_split_files("TextVQA_*_{}.json", split)
    ocr = _ocr(source, split) if files else {}
    for item in source.records(files[0], "data") if files else source.hub_items():
        image, question = item.text("image_id"), item.text("question")
        answers = item.texts("answers")
        if ocr is None or not files:
            text = _with_tokens(question, item.texts("ocr_tokens", at_least=0))
        else:
            key = (image, question.lower()) if (image, question.lower()) in ocr else (image, "")
            if key not in ocr:
                raise item.error("image_id", f"{image} has no OCR tokens")
            question_or_tokens = ocr[key]
            if isinstance(question_or_tokens, str):
                text = question_or_tokens
            else:
                text = _with_tokens(question, question_or_tokens)
        picture = f"{image}.jpg" if files else source.save_image(item, image)
        yield {"id": item.text("question_id"), "image": picture, "question": text, "answers": answers}


def _ocr(source: Source, split: str) -> dict[tuple[str, str], str | list[str]] | None:
    """LLaVA's questions by image and lower-case question, else OCR tokens by image and ""; None without either file."""
    if files := source.find_beside(f"*textvqa_{split}_*ocr.jsonl*"):
        questions = {}
        for item in source.items(read_json_lines(files[0])):
            question, _, _ = item.text("text").rpartition("\n")  # the last line is the prompt's
            questions[item.text("question_id"), _bare(question).lower()] = question
        return questions
    if files := source.find_beside(f"TextVQA_Rosetta_OCR_*_{split}.json"):
        items = source.records(files[0], "data", of="OCR")
        return {(item.text("image_id"), ""): item.texts("ocr_tokens", at_least=0) for item in items}
    return None


def _bare(question: str) -> str:
    lines = question.split("\n")
    return "\n".join(line for line in lines if not line.startswith(REFERENCE))


def _with_tokens(question: str, tokens: list[str]) -> str:
    """The question as LLaVA's file has it, first letter capital."""
    return f"{question[:1].upper()}{question[1:]}\n{REFERENCE} {', '.join(tokens)}"
