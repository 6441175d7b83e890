"""One record of a benchmark's data: every value is read by the form it must have, or refused by its place and name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from vrx.config.errors import UserError

SHOWN = 60  # characters of a value in an error


class Item(dict[str, Any]):
    """One record, by column. Errors name its place (`label`: benchmark and position) and the column.

    A reader takes what it needs by `text`, `whole`, `items` and the like, so that a file of any other form is refused.
    """

    def __init__(self, values: dict[str, Any], label: str) -> None:
        super().__init__(values)
        self.label = label

    def __missing__(self, column: str) -> Any:
        raise self.error(column, f"is missing; there are {', '.join(map(str, self))[:300]}")

    def error(self, column: str, reason: str) -> UserError:
        """The error to raise for an invalid column; `reason` completes "column <name> …"."""
        return UserError(f"{self.label}: column {column} {reason}")

    def text(self, column: str) -> str:
        """A text that is not blank, or a number as text."""
        value = self[column]
        if not _is_text(value) or not str(value).strip():
            raise self._no(column, "a text")
        return str(value)

    def optional_text(self, column: str) -> str | None:
        """As `text`; None where the column is missing, null or blank."""
        value = self.get(column)
        if value is None or value == "":
            return None
        return self.text(column)

    def texts(self, column: str, *, at_least: int = 1) -> list[str]:
        """A list of texts."""
        value = self[column]
        if not isinstance(value, list | tuple) or len(value) < at_least or not all(map(_is_text, value)):
            raise self._no(column, f"a list of at least {'one text' if at_least == 1 else f'{at_least} texts'}")
        return [str(entry) for entry in value]

    def whole(self, column: str) -> int:
        """A whole number of at most 18 digits, which may be written as text, as tables do."""
        value = self[column]
        text = str(value).strip() if _is_text(value) else ""
        if not text.lstrip("-").isdecimal() or not text.isascii() or len(text) > 18:
            raise self._no(column, "a whole number")
        return int(text)

    def numbers(self, column: str, length: int) -> list[float]:
        """A list of finite numbers."""
        value = self[column]
        if not isinstance(value, list | tuple) or len(value) != length or not all(map(_is_number, value)):
            raise self._no(column, f"a list of {length} numbers")
        return [float(entry) for entry in value]

    def letter(self, column: str, number: int) -> str:
        """The letter of a column that holds the index of one of `number` choices."""
        value = self[column]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < number:
            raise self._no(column, f"the index of one of {number} choices")
        return chr(ord("A") + value)

    def items(self, column: str) -> list[Item]:  # type: ignore[override]
        """A list of records inside this one."""
        value = self[column]
        if not isinstance(value, list | tuple):
            raise self._no(column, "a list")
        return list(as_items(value, f"{self.label}, {column}:"))

    def optional_item(self, column: str) -> Item:
        """A record inside this one, without any column where it is missing or null."""
        value = self.get(column)
        if value is not None and not isinstance(value, dict):
            raise self._no(column, "an object with named columns")
        return Item(value or {}, f"{self.label}, {column}")

    def _no(self, column: str, what: str) -> UserError:
        value = self[column]
        shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
        return self.error(column, f"is {shown[:SHOWN]}, must be {what}")


def as_items(records: Iterable[object], before: str) -> Iterator[Item]:
    """Records as items; `before` says in errors whose they are. Records must be JSON objects."""
    for number, values in enumerate(records):
        label = f"{before} sample {number}"
        if not isinstance(values, dict):
            raise UserError(f"{label}: is {ascii(values)[:40]}, must be an object with named columns")
        yield Item(values, label)


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
