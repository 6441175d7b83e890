"""Four photographs with questions, and conversations about them."""

from __future__ import annotations

import json
from pathlib import Path

from support.whole_runs import GOLDEN

PHOTOGRAPHS = GOLDEN / "photographs"
QUESTIONS = PHOTOGRAPHS / "questions.jsonl"


def write_conversations(path: Path) -> Path:
    """Conversations about the photographs: of one and of two pictures, and of text alone."""
    questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    records = [
        {
            "id": row["id"],
            "images": [row["image"]],
            "messages": [
                {"role": "user", "content": f"<image>{row['question']}"},
                {"role": "assistant", "content": row["choices"]["AB".index(row["answer"])]},
            ],
        }
        for row in questions
    ]
    records.append(
        {
            "id": "both",
            "images": [questions[0]["image"], questions[2]["image"]],
            "messages": [
                {"role": "user", "content": "<image> and <image>: which is a calendar ?"},
                {"role": "assistant", "content": "the second"},
            ],
        }
    )
    text = {"role": "user", "content": "what is a cat ?"}
    records.append({"id": "text", "messages": [text, {"role": "assistant", "content": "an animal"}]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
