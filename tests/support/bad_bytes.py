"""Changes of files that say beforehand how they may be taken: of bytes, of JSON texts, and of values."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from typing import Any

from support.bad_input_runner import OTHER, REFUSED, SAME, TOLD

Expected = frozenset[str]
ByteChange = tuple[str, Expected, Callable[[bytes, random.Random], bytes]]

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
ODD = (None, True, -1, 10**7, 10**400, float("nan"), [], {}, [[1], 2], {"a": {"b": []}}, "", "\ud800", "a\0b", "../..")
NO = frozenset({REFUSED})
LEFT_OUT = frozenset({REFUSED, TOLD})
FINE = frozenset({SAME})
NO_OR_FINE = frozenset({REFUSED, SAME})
ANYHOW = frozenset({REFUSED, TOLD, SAME, OTHER})


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, max(2, len(content) - 2))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Some bytes replaced by others."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def inserted(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.randbytes(rng.choice([1, 7, 300])) + content[place:]


ANY_FILE: list[ByteChange] = [  # whatever the file holds
    ("empty", NO, lambda content, rng: b""),
    ("cut", NO, cut),
    ("pointer of Git LFS", NO, lambda content, rng: POINTER),
    ("noise", NO, lambda content, rng: rng.randbytes(500)),
    ("zeros", NO, lambda content, rng: bytes(len(content))),
    ("packed", NO, lambda content, rng: gzip.compress(content)),
]
JSON_TEXT: list[ByteChange] = [  # of a JSON file; what is fine changes no value
    ("byte order mark", FINE, lambda content, rng: b"\xef\xbb\xbf" + content),
    ("blank lines", FINE, lambda content, rng: b"\n\n  " + content + b"\n\r\n\t\n"),
    ("indented", FINE, lambda content, rng: json.dumps(json.loads(content), indent=3).encode()),
    ("UTF-16", NO, lambda content, rng: content.decode().encode("utf-16")),
    ("NUL", NO, lambda content, rng: content + b"\0"),
    ("no UTF-8", NO, lambda content, rng: content.replace(b'"', b'"\xe9', 1)),
    ("more after it", NO, lambda content, rng: content + b"{}"),
    ("nested", NO, lambda content, rng: b"[" * 100_000),
    ("nested objects", NO, lambda content, rng: b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ("many digits", NO, lambda content, rng: b"[" + b"9" * 5000 + b"]"),
    ("single quotes", NO, lambda content, rng: content.replace(b'"', b"'")),
    ("another value", NO, lambda content, rng: rng.choice([b"null", b"3", b'"a"', b"true", b"[]", b"[[]]", b"[null]"])),
]


def at(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place; `...` as the new one takes the place away."""
    changed = copy.deepcopy(value)
    part = changed
    for key in keys[:-1]:
        part = part[key]
    if new is ...:
        del part[keys[-1]]
    else:
        part[keys[-1]] = new
    return changed


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys of every place in a value of JSON."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in pairs for found in ((*before, key), *places(part, (*before, key)))]


def shuffled_value(value: Any, rng: random.Random) -> tuple[str, Any]:
    """The value with one place taken away, or of another form; and what was done, in words."""
    place = rng.choice(places(value))
    new = ... if rng.random() < 0.3 else rng.choice(ODD)
    shown = "taken away" if new is ... else f"{new!a:.30}"
    return f"{'.'.join(map(str, place))[:60]} {shown}", at(value, place, new)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()
