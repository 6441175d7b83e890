"""One record of conversations, in any of four layouts, as messages with picture parts.

- LLaVA's: `conversations`, a list of {"from": "human" | "gpt" | "system", "value": text}, and `image`, one path or a
  list of paths; `<image>` in a text is the place of a picture.
- messages: `messages`, a list of {"role": "user" | "assistant" | "system", "content": text or parts}, and `images`, a
  list of paths or pictures. A part is {"type": "text", "text": …} or {"type": "image"}, which may name its own file as
  `image` or `path`. In a text `<image>` is the place of a picture.
- The Cauldron's and FineVision's: `texts`, a list of {"user": text, "assistant": text}, and `images`, which stand
  before the first question.

Nothing is dropped in silence: keys that might mean more, such as a video, are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vrx.config.errors import UserError
from vrx.data.conversations.turns import TurnReader, read_pictures
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.data.instructions.record_checks import HALF_PAIR, ORIGIN_KEYS, Invalid, has_lone_surrogate

LAYOUTS = {"messages": "images", "conversations": "image", "texts": "images"}  # column of the turns: of the pictures
RATINGS = re.compile(r"\w+_(ratings|min|count)")  # FineVision's columns of measurements
OTHER_MEDIA = re.compile(r"(video|audio|clip|frame)\w*")
PECULIARITIES = {
    "leading answer": "begin with an answer, which is left out",
    "trailing question": "end with a question: nothing is learned from it",
    "empty answer": "have an empty answer: nothing is learned from it",
}


@dataclass(frozen=True)
class Conversation:
    """A validated record. messages: with picture parts {"type": "image"}; pictures: one for each of these, in order.

    A picture is a path below the image folder, or the content of a picture file.
    """

    id: str
    messages: list[dict[str, Any]]
    pictures: list[str | bytes]

    @property
    def num_words(self) -> int:
        """Words of all texts."""
        parts = (part for message in self.messages for part in message["content"])
        return sum(len(part["text"].split()) for part in parts if part["type"] == "text")


def read_record(
    record: object,
    name: str,
    peculiarities: Counter[str],
    columns: Mapping[str, str] | None = None,
    *,
    section: str = "instructions",
) -> Conversation:
    """Validate a record and convert it; its peculiarities are counted.

    name: file and number of the record, for the `UserError`, which also names the key. columns: the columns of a data
    set that hold what a layout calls otherwise, such as {"texts": "qa"}. section: the data set's part of the
    configuration, for errors.
    """
    if not isinstance(record, dict):
        raise UserError(f"{name}: not a JSON object")
    record = _renamed(record, columns or {}, name, section)
    name += f" (id {record['id']})" if record.get("id") is not None else ""

    def invalid(key: str, reason: str) -> UserError:
        return UserError(f"{name}: {key}: {reason}")

    turns_key = next((key for key in LAYOUTS if record.get(key) is not None), None)
    _refuse_unknown(record, turns_key, invalid)
    if turns_key is None:
        raise invalid("messages", f"missing; valid is one of {', '.join(LAYOUTS)}")
    pictures_key = next((key for key in ("images", "image") if record.get(key) is not None), LAYOUTS[turns_key])
    pictures = read_pictures(record.get(pictures_key), pictures_key, invalid, section=section)
    turns = record[turns_key]
    if not isinstance(turns, list | tuple) or not turns:
        raise invalid(turns_key, "missing or empty")
    if turns_key == "texts":
        messages = _from_texts(turns, len(pictures), invalid)
    else:
        reader = TurnReader(pictures, turns_key, invalid, section=section)
        messages = [reader.message(turn, number) for number, turn in enumerate(turns)]
        reader.require_all_used(pictures_key)
        pictures = reader.used
    if messages[0]["role"] == "assistant" and len(messages) > 1 and turns_key == "conversations":
        peculiarities["leading answer"] += 1
        del messages[0]
    _check_order(messages, turns_key, invalid)
    peculiarities["trailing question"] += messages[-1]["role"] == "user"
    answers = (message for message in messages if message["role"] == "assistant")
    peculiarities["empty answer"] += any(not _text(message).strip() for message in answers)
    return Conversation(str(record.get("id") or ""), messages, pictures)


def _from_texts(turns: Sequence[object], num_pictures: int, invalid: Invalid) -> list[dict[str, Any]]:
    """The messages of question-answer pairs; all pictures stand before the first question."""
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        for key, role in (("user", "user"), ("assistant", "assistant")):
            text = turn.get(key) if isinstance(turn, dict) else None
            if not isinstance(text, str):
                raise invalid(f"texts[{number}]", f"needs a text under `{key}`")
            if has_lone_surrogate(text):
                raise invalid(f"texts[{number}].{key}", HALF_PAIR)
            messages.append({"role": role, "content": [{"type": "text", "text": text.replace(IMAGE_TAG, "").strip()}]})
    messages[0]["content"] = [*({"type": "image"} for _ in range(num_pictures)), *messages[0]["content"]]
    return messages


def _renamed(record: dict[str, Any], columns: Mapping[str, str], name: str, section: str) -> dict[str, Any]:
    """The record with the columns that `<section>.columns` names under the names of the layouts."""
    for key, column in columns.items():
        if column not in record:
            raise UserError(
                f"{name}: {column}: no such column ({section}.columns.{key}); there are {', '.join(record)}"
            )
    taken = set(columns.values())
    rest = {key: value for key, value in record.items() if key not in taken and key not in columns}
    return {**rest, **{key: record[column] for key, column in columns.items()}}


def _refuse_unknown(record: Mapping[str, Any], turns_key: str | None, invalid: Invalid) -> None:
    known = {"id", "image", "images", "model", *ORIGIN_KEYS, *((turns_key,) if turns_key else LAYOUTS)}
    for key, value in record.items():
        if value is None or key in known or RATINGS.fullmatch(key):
            continue
        shown = ascii(key)[1:-1] if has_lone_surrogate(key) else key
        if OTHER_MEDIA.fullmatch(key):
            raise invalid(shown, "videos and sounds are not trained on; valid are pictures, under image or images")
        raise invalid(shown, f"a key of no meaning here; valid are id, image, images and one of {', '.join(LAYOUTS)}")


def _check_order(messages: Sequence[Mapping[str, Any]], key: str, invalid: Invalid) -> None:
    """Refuse turns that are not an optional system turn, then questions and answers in turn."""
    first = 1 if messages[0]["role"] == "system" else 0
    if len(messages) == first:
        raise invalid(key, "has a system turn alone")
    for number, message in enumerate(messages[first:], first):
        role = ("user", "assistant")[(number - first) % 2]
        if message["role"] != role:
            raise invalid(f"{key}[{number}]", f"is of {message['role']}, must be of {role}: they alternate")


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")
