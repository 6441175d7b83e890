"""Keys that are true or false take no other number: OmegaConf would read `train.connector=7` as true."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_args, get_origin, get_type_hints

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def refuse_number(override: str) -> None:
    """Refuse a number but 0 and 1 for a key that is true or false: `UserError`."""
    key, _, value = override.lstrip("+").partition("=")
    if NUMBER.fullmatch(value.strip()) and value.strip() not in ("0", "1") and bool in _types(key):
        raise UserError(f"{override}: valid are true and false")


def _types(key: str) -> tuple[Any, ...]:
    """The types that a dotted key takes; none for a key that the schema does not have."""
    hint: Any = RunConfig
    for name in key.split("."):
        parts = (hint, *get_args(hint))
        section = next((part for part in parts if dataclasses.is_dataclass(part)), None)
        if get_origin(hint) is dict:  # of benchmarks or data sets, by name
            hint = parts[-1]
        elif section is None:
            return ()
        else:
            hint = get_type_hints(section).get(name)
    return (hint, *get_args(hint))
