"""DocVQA: questions about scanned documents. Official `val_v1.0.json` (or `…_withQT.json`), or lmms-lab/DocVQA."""

from __future__ import annotations

from collections.abc import Iterator

from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import ShortAnswerRow

SHORT = {"validation": "val"}


def rows(source: Source) -> Iterator[ShortAnswerRow]:
    """One or several references a question; the test split has none and is refused."""
    split = source.split or "validation"
    files = source.find_split_files("{}_v1.0*.json", SHORT.get(split, split))
    items = source.records(files[0], "data") if files else source.hub_items()
    for item in items:
        yield {
            "id": item.text("questionId"),
            "image": item.text("image") if files else source.save_image(item, _page(item)),
            "question": item.text("question"),
            "answers": item.texts("answers"),
        }


def _page(item: Item) -> str:
    """A page's name; several questions share it."""
    return f"{item.text('ucsf_document_id')}_{item.text('ucsf_document_page_no')}"
