"""Captions, the data of stage 1: whether the rows of a table are captions.

`vrx.data.instructions.encoding` tokenizes them.
"""

from __future__ import annotations

import json
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.schema import CaptionsConfig
from vrx.data.instructions import instruction_dataset
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.runs.files import write_json

ROWS_AT_A_TIME = 1000
CHECKED = "captions_checked.json"  # beside a table of captions whose rows all passed


def require_captions(table: Path, config: CaptionsConfig) -> None:
    """Refuse a table with rows that are no captions: `UserError` names the first one and what it lacks.

    A caption is a picture, a question with one image tag, and an answer. Each table is checked once.
    """
    marker = table / CHECKED
    if marker.is_file():
        return
    first = 0
    for columns in instruction_dataset.open_table(table).iter(ROWS_AT_A_TIME):  # row by row would take minutes
        rows = zip(columns["id"], columns["image"], columns["conversations"], strict=True)  # type: ignore[index]
        for number, (record_id, image, conversations) in enumerate(rows, first):
            if reason := _fault(image, conversations):
                name = f"{number} (id {record_id})" if record_id else f"{number}"
                raise UserError(f"captions.path={config.path}: record {name}: {reason}")
        first += ROWS_AT_A_TIME
    write_json(marker, {"captions": "all rows are captions"})


def _fault(image: str | None, conversations: str) -> str | None:
    if image is None:
        return "image: missing; every caption needs a picture"
    turns = json.loads(conversations)
    if len(turns) != 2 or turns[0]["from"] != "human":
        return "conversations: must be a question and its caption, one turn of human and one of gpt"
    if IMAGE_TAG not in turns[0]["value"]:
        return f"conversations[0]: has no {IMAGE_TAG} tag, the place of the picture"
    return None
