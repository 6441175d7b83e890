"""JSON from files of others: parsed, or refused with the place of the fault."""

from __future__ import annotations

import json
from typing import Any

from vrx.config.errors import UserError


class InvalidJson(UserError):
    """A text that is not JSON, or not JSON that can be read; the message says why and where, but not in which file."""


def parse_json(text: str | bytes, *, is_line: bool = False) -> Any:
    """The value of a JSON text, UTF-8 with or without a byte order mark; `InvalidJson` for any other text.

    is_line: the text is a line of a file, whose number the caller tells.
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno:,}" if is_line else place_in_text(error.lineno, error.colno)
        raise InvalidJson(f"not valid JSON, {place}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8: {error}") from None
    except RecursionError:
        raise InvalidJson("not valid JSON: nested too deep") from None
    except ValueError:  # Python's limit to the digits of an integer
        raise InvalidJson("not valid JSON: a number with too many digits") from None


def place_in_text(line: int, column: int) -> str:
    """A place as errors name it, both counted from 1; many files of JSON are a single line."""
    return f"line {line} column {column:,}"
