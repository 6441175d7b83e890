"""Long JSON lists read one item at a time, so that a file of a gigabyte is never in memory at once.

`ijson` reports no line number for an error, replaces lone surrogates by `?` (which changes token ids), reads an object
as an empty list, and is slower.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vrx.config.errors import UserError
from vrx.runs.files import POINTER, pointer_error
from vrx.runs.json_text import place_in_text

CHUNK = 1 << 22  # bytes read at a time
LONGEST = 1 << 26  # characters of one item; a longer item is taken to be unterminated
SPACE = re.compile(r"[ \t\n\r]*")


def stream_items(path: Path, *, while_reading: Callable[[int], object] = lambda num_bytes: None) -> Iterator[Any]:
    """The items of the JSON list in a file; `UserError` names the file, and the place and record of invalid JSON.

    `while_reading` is called with the number of bytes of each piece read.
    """
    with path.open("rb") as file:
        text = _Text(path, file, while_reading)
        if (character := text.next_character()) and character != "[":
            text.value()  # raises if the file is not JSON
            raise UserError(f"{path}: must be a JSON list of conversations with at least one")
        if not character:
            raise text.syntax_error("Expecting value", 0)
        text.at += 1
        if text.next_character() == "]":
            text.at += 1
        else:
            while True:
                text.next_character()
                yield text.value()
                text.num_items += 1
                character = text.next_character()
                text.at += 1
                if character == "]":
                    break
                if character != ",":
                    raise text.syntax_error("Expecting ',' delimiter", text.at - 1)
        if text.next_character():
            raise text.syntax_error("Extra data", text.at)


class _Text:
    """The part of a file in memory and the position in it; `line` is the line number at the start of this part."""

    def __init__(self, path: Path, file: BinaryIO, while_reading: Callable[[int], object]) -> None:
        self.path, self.file, self.while_reading = path, file, while_reading
        self.decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self.from_json = json.JSONDecoder().raw_decode
        self.text, self.at, self.line, self.ended = "", 0, 1, False
        self.before = 0  # characters of the line that this part begins in the middle of
        self.num_items = 0

    def more(self) -> None:
        self.before = self._column(self.at) - 1
        self.line += self.text.count("\n", 0, self.at)
        piece = self.file.read(CHUNK)
        self.ended = not piece
        self.while_reading(len(piece))
        try:
            self.text, self.at = self.text[self.at :] + self.decode(piece, self.ended), 0
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: not UTF-8: {error}") from None

    def next_character(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            space = SPACE.match(self.text, self.at)
            assert space is not None
            self.at = space.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def value(self) -> Any:
        """The JSON value at the current position."""
        while True:
            try:
                value, end = self.from_json(self.text, self.at)
                if end < len(self.text) or self.ended:  # else a number might continue
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                if self.ended or len(self.text) - self.at > LONGEST:
                    raise self.syntax_error(error.msg, error.pos) from None
            except RecursionError:
                raise self.syntax_error("nested too deep", self.at) from None
            except ValueError:  # Python's limit to the digits of an integer
                raise self.syntax_error("a number with too many digits", self.at) from None
            self.more()

    def syntax_error(self, reason: str, position: int) -> UserError:
        if not self.num_items and (message := pointer_error(self.text[: len(POINTER)].encode())):
            return UserError(f"{self.path}: {message}")
        line = self.line + self.text.count("\n", 0, position)
        place = f"{place_in_text(line, self._column(position))}, record {self.num_items:,}"
        return UserError(f"{self.path}: not valid JSON, {place}: {reason}")

    def _column(self, position: int) -> int:
        """The column of a position in this part of the file, counted from 1."""
        start = self.text.rfind("\n", 0, position) + 1
        return position - start + 1 + (self.before if start == 0 else 0)
