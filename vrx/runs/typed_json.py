"""Dataclasses from JSON and back: types are checked, unknown keys are preserved.

A dataclass that has a field `extra` keeps there the keys it does not know, and writes them back.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

from vrx.config.errors import UserError

T = TypeVar("T")


class InvalidField(UserError):
    """A JSON value that is not what its field declares; the message begins with the dotted key."""


def from_json(kind: type[T], value: Any, key: str = "") -> T:
    """An instance of a dataclass from a JSON object.

    key: the dotted key of the value, for errors. `InvalidField` where a field is missing or has another type.
    """
    if not isinstance(value, dict):
        raise InvalidField(f"{key or 'it'} is not a JSON object")
    hints = _hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = f"{key}.{field.name}" if key else field.name
        if field.name == "extra":
            arguments["extra"] = {name: part for name, part in value.items() if name not in hints}
        elif field.name in value:
            arguments[field.name] = _convert(hints[field.name], value[field.name], name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidField(f"{name} is missing")
    return kind(**arguments)


def to_json(instance: Any) -> dict[str, Any]:
    """The JSON object of a dataclass; fields that are None are left out, preserved unknown keys come last."""
    result = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if value is not None and field.name != "extra":
            result[field.name] = _plain(value)
    return result | getattr(instance, "extra", {})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name != "extra"}


def _convert(hint: Any, value: Any, key: str) -> Any:
    """The value as its type hint declares it, checked."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = [argument for argument in arguments if argument is not type(None)]
        return _convert(hint, value, key)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, key)
    if hint is Any:
        return value
    expected: type = origin or hint
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise InvalidField(f"{key} has the wrong type: {value!r:.40}")
    if isinstance(value, list) and arguments:
        return [_convert(arguments[0], part, f"{key}[{number}]") for number, part in enumerate(value)]
    if isinstance(value, dict) and arguments:
        return {name: _convert(arguments[1], part, f"{key}.{name}") for name, part in value.items()}
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
