"""The data sets of the hub in small: rows, and the answer each row is read as."""

from __future__ import annotations

from typing import Any

import datasets
from support.official_files import picture

from vrx.metrics.answer import Answer

HUB: dict[str, tuple[list[dict[str, Any]], list[Answer]]] = {
    "ocrvqa": (
        [{"image": "PIC", "image_id": "b1", "questions": ["Who?", "What?"], "answers": ["Ada", "Art"]}],
        [Answer("b1_0", "", ("Ada",)), Answer("b1_1", "", ("Art",))],
    ),
    "flickr30k": (
        [{"image": "PIC", "caption": ["A dog .", "It runs ."], "filename": "7.jpg", "img_id": "0"}],
        [Answer("7", "", ("A dog .", "It runs ."))],
    ),
    "docvqa": (
        [
            {
                "questionId": "4",
                "question": "Date?",
                "answers": ["1", "2"],
                "image": "PIC",
                "ucsf_document_id": "d",
                "ucsf_document_page_no": "1",
            }
        ],
        [Answer("4", "", ("1", "2"))],
    ),
    "refcocog": (
        [
            {
                "question_id": "8",
                "image": "PIC",
                "question": "-",
                "answer": ["the cat", "it"],
                "bbox": [1.0, 2.0, 30.0, 40.0],
                "file_name": "c_1.jpg",
            }
        ],
        [Answer(f"8_{n}", "", (), box=(1, 2, 31, 42), image_size=(64, 48)) for n in (0, 1)],
    ),
    "mmbench": (
        [
            {
                "index": 3,
                "question": "Which?",
                "hint": "nan",
                "A": "red",
                "B": "blue",
                "C": "nan",
                "D": "nan",
                "answer": "A",
                "category": "c",
                "image": "PIC",
            }
        ],
        [Answer("3", "", ("A",), ("red", "blue"), "c", "3")],
    ),
    "scienceqa": (
        [{"image": "PIC", "question": "Warm?", "choices": ["yes", "no"], "answer": 1, "hint": "", "subject": "sun"}],
        [Answer("0", "", ("B",), ("yes", "no"), "sun")],
    ),
    "textvqa": (
        [
            {
                "image_id": "ab",
                "question_id": 3,
                "question": "what?",
                "image": "PIC",
                "answers": ["x"] * 10,
                "ocr_tokens": [],
            }
        ],
        [Answer("3", "", ("x",) * 10)],
    ),
    "mmlu": (
        [{"question": "One?", "subject": "law", "choices": ["1", "2", "3", "4"], "answer": 2}],
        [Answer("law_0", "", ("C",), ("1", "2", "3", "4"), "law")],
    ),
    "wikitext": ([{"page": " = A = \n one , two"}], [Answer("0", "", (), num_words=7, num_bytes=18)]),
    "pile10k": (
        [{"text": "one two", "meta": {"pile_set_name": "Books"}}],
        [Answer("0", "", (), question_type="Books", num_words=2, num_bytes=7)],
    ),
}

REFERENCE_COLUMNS = {  # column of a row that holds the references, or the text
    "ocrvqa": "answers",
    "docvqa": "answers",
    "refcocog": "bbox",
    "mmbench": "answer",
    "scienceqa": "answer",
    "textvqa": "answers",
    "mmlu": "answer",
    "flickr30k": "caption",
    "wikitext": "page",
    "pile10k": "text",
}


def table(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """Rows as a table of `datasets`: `PIC` stands for an image."""
    rows = [
        {key: {"bytes": picture(), "path": None} if value == "PIC" else value for key, value in row.items()}
        for row in rows
    ]
    data = datasets.Dataset.from_list(rows)
    return data.cast_column("image", datasets.Image()) if "image" in rows[0] else data
