"""Bounds of numbers, declared with the field that they are of, and the check that every number lies within its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from vrx.config.errors import UserError

BOUNDS = "bounds"  # key of a field's metadata
GUARD = 1000  # a larger upper bound only keeps nonsense out, and is not told to whoever typed a number that is too low

MAX_LAYERS = 4096  # decoder layers; the deepest model that is known has some hundred
MAX_SEED = 2**32 - 1  # of NumPy's generators
MANY = 10**9  # steps, samples


def number(default: Any, low: float, high: float) -> Any:
    """A field that holds a number in [low, high], or a list of such numbers; null means that the default is taken.

    default: a value, or a function that makes a list.
    """
    metadata = {BOUNDS: (low, high)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def within(key: str, value: float | None, low: float, high: float) -> None:
    """Refuse a number outside of [low, high], and one that is not a number; null means that the default is taken."""
    if value is not None and not low <= value <= high:
        too_low = not value > high and high > GUARD
        raise UserError(f"{key}={value}: must be {f'>= {low}' if too_low else f'between {low} and {high}'}")


def among(key: str, value: Any, valid: Sequence[Any]) -> None:
    """Refuse a value that is not one of `valid`; null means that the default is taken."""
    if value is not None and value not in valid:
        raise UserError(f"{key}={value}: valid are {', '.join(map(str, valid))}")


def check_bounds(config: Any, prefix: str = "") -> None:
    """Refuse numbers outside of their fields' bounds, and lists of texts that hold others: `UserError` with the key."""
    for key, value, hint, bounds in _fields(config, prefix):
        if bounds is not None and value is not None and value != MISSING:
            _check(key, value, hint, bounds)
        elif bounds is None and isinstance(value, list | dict):
            _check_texts(key, value, hint)


def schema_fields(schema: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Dotted key, field and type of every field of a dataclass and of all dataclasses that its types name.

    `*` stands for the names of a dictionary.
    """
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        yield key, field, hint
        for part in (part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)):
            yield from schema_fields(part, f"{key}.*." if get_origin(hint) is dict else f"{key}.")


def _fields(config: Any, prefix: str) -> Iterator[tuple[str, Any, Any, tuple[float, float] | None]]:
    """Dotted key, value, type and bounds of every field below a configuration."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        parts = value if isinstance(value, dict) else {}
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{key}.")
        elif any(dataclasses.is_dataclass(part) for part in parts.values()):
            for name, part in parts.items():
                yield from _fields(part, f"{key}.{name}.")
        else:
            yield key, value, hints[field.name], field.metadata.get(BOUNDS)


def _check(key: str, value: Any, hint: Any, bounds: tuple[float, float]) -> None:
    lists = [part for part in (hint, *get_args(hint)) if get_origin(part) is list]
    if not lists:
        if isinstance(value, list | dict):
            raise UserError(f"{key}={value}: valid is a number")
        within(key, value, *bounds)
        return
    (part_hint,) = get_args(lists[0])
    if not isinstance(value, list):
        raise UserError(f"{key}={value}: valid is a list")
    for part in value:
        if (get_origin(part_hint) is list) != isinstance(part, list) or part is None:
            parts = "pairs of numbers" if get_origin(part_hint) is list else "numbers"
            raise UserError(f"{key}={value}: valid is a list of {parts}")
        _check(key, part, part_hint, bounds)


def _check_texts(key: str, value: list[Any] | dict[str, Any], hint: Any) -> None:
    """Refuse lists inside a list of texts and the like, which OmegaConf lets through."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if {list[str], dict[str, str]} & {hint, *get_args(hint)} and not all(isinstance(part, str) for part in parts):
        raise UserError(f"{key}={value}: valid are texts in it")
