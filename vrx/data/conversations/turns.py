"""The turns and pictures of one record of conversations; every picture part gets its picture."""

from __future__ import annotations

import re
from typing import Any

from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.data.instructions.record_checks import HALF_PAIR, Invalid, check_image_path, has_lone_surrogate

Part = dict[str, str]
ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
AROUND_TAG = re.compile(rf"\n?{re.escape(IMAGE_TAG)}\n?")


class TurnReader:
    """Reads the turns of a record and gives each picture part its picture.

    pictures: of the record; key: of the turns; section: the data set's part of the configuration, for errors.
    """

    def __init__(self, pictures: list[str | bytes], key: str, invalid: Invalid, *, section: str) -> None:
        self.pictures, self.key, self.has_pictures, self.invalid = list(pictures), key, bool(pictures), invalid
        self.section = section
        self.used: list[str | bytes] = []
        self.num_parts = 0

    def message(self, turn: object, number: int) -> dict[str, Any]:
        """A turn as a message with parts; number: its place, for errors."""
        key = f"{self.key}[{number}]"
        role_key, content_key = ("from", "value") if self.key == "conversations" else ("role", "content")
        if not isinstance(turn, dict):
            raise self.invalid(key, f"needs {role_key} and {content_key}")
        for name, value in turn.items():
            if name not in (role_key, content_key) and value is not None:
                raise self.invalid(f"{key}.{name}", f"a key of no meaning here; valid are {role_key}, {content_key}")
        role = ROLES.get(turn.get(role_key) if isinstance(turn.get(role_key), str) else "")  # type: ignore[arg-type]
        if role is None:
            valid = "human, gpt, system" if role_key == "from" else "user, assistant, system"
            raise self.invalid(f"{key}.{role_key}", f"is {turn.get(role_key)!r}, valid are {valid}")
        content = turn.get(content_key)
        if isinstance(content, str):
            parts = self._split(content, f"{key}.{content_key}")
        elif isinstance(content, list | tuple) and content:
            parts = [part for index, item in enumerate(content) for part in self._part(item, f"{key}.content[{index}]")]
        else:
            raise self.invalid(key, f"needs a text under `{content_key}`")
        if role != "user" and any(part["type"] == "image" for part in parts):
            raise self.invalid(key, f"a picture in a turn of {turn[role_key]}; valid are those of the user")
        return {"role": role, "content": parts or [{"type": "text", "text": ""}]}

    def require_all_used(self, key: str) -> None:
        """Refuse pictures, of the record's `key`, that no turn has a place for."""
        if self.pictures and self.has_pictures:
            total = self.num_parts + len(self.pictures)
            raise self.invalid(key, f"{total} pictures, but {self.num_parts} {IMAGE_TAG} tags or picture parts")

    def _split(self, text: str, key: str) -> list[Part]:
        """A text as parts, cut at its tags where the record has pictures."""
        if has_lone_surrogate(text):
            raise self.invalid(key, HALF_PAIR)
        if not self.has_pictures:
            if text.strip().startswith(IMAGE_TAG) or text.strip().endswith(IMAGE_TAG):
                raise self.invalid(key, f"has an {IMAGE_TAG} tag, but the record has no picture")
            return [{"type": "text", "text": text}]
        parts: list[Part] = []
        for index, piece in enumerate(AROUND_TAG.split(text)):
            if index:
                parts.append(self._picture(None, key))
            if piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def _part(self, part: object, key: str) -> list[Part]:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in ("text", "image"):
            raise self.invalid(key, f"is of type {kind!r}, valid are text and image")
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise self.invalid(key, "needs a text under `text`")
            return self._split(part["text"], key)
        given = next((part[name] for name in ("image", "path") if part.get(name) is not None), None)
        return [self._picture(given, key)]

    def _picture(self, given: object, key: str) -> Part:
        """The part of a picture that the part itself names, or of the record's next one."""
        self.num_parts += 1
        if given is not None:
            self.used.append(_picture(given, key, self.invalid, self.section))
        elif self.pictures:
            self.used.append(self.pictures.pop(0))
        else:
            raise self.invalid(key, f"has more {IMAGE_TAG} tags or picture parts than the record has pictures")
        return {"type": "image"}


def read_pictures(value: object, key: str, invalid: Invalid, *, section: str) -> list[str | bytes]:
    """The pictures of a record: one, a list, or none. section: the data set's part of the configuration."""
    if value is None:
        return []
    values = list(value) if isinstance(value, list | tuple) else [value]
    return [
        _picture(item, f"{key}[{number}]" if len(values) > 1 else key, invalid, section)
        for number, item in enumerate(values)
    ]


def _picture(value: object, key: str, invalid: Invalid, section: str) -> str | bytes:
    """A path below the image folder or the content of a file, such as {"bytes": …, "path": …} of a data set."""
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise invalid(key, f"is {str(value)[:60]!r}, must be a path or a picture")
    if re.match(r"\w+://|data:", value):
        raise invalid(key, f"is {value[:60]}, an address; valid is a path below {section}.image_folder")
    check_image_path(value, key, invalid)
    return value
