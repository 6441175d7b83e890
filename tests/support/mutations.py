"""Bad input for tests of readers: JSON values with a part replaced, removed or added, and YAML that no run has."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

NUMBERS = (-1, 10**7, 10**400, float("nan"), float("inf"), -0.5, 0)
PATHS = ("/../../../../ESC", "..", ".", "")
TEXTS = ("a\0b", "\ud800", "x" * 400, "x\\input{evil}", "$\\foo$", "a\nb", "\t=1+1", "vrx.x", *PATHS)
_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)
UNREADABLE_YAML = {  # in place of a run's configuration
    "alias bomb": _BOMB,
    "code": "model: !!python/object/apply:os.mkdir [made_by_yaml]\n",
    "a name of code": "model: !!python/name:os.system\n",
    "lists in lists": "[" * 3_000,
    "maps in maps": "{a: " * 5_000 + "1" + "}" * 5_000,
    "NUL": "model: a\0b\n",
    "many digits": f"seed: {'9' * 5000}\n",
    "two documents": "a: 1\n---\nb: 2\n",
}
ODD_VALUES = st.one_of(
    st.sampled_from([None, True, False, [], {}, [[1, 2], [3]], {"a": {"b": []}}, *NUMBERS, *TEXTS]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one to three of its parts changed."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        changed = _change(draw, changed)
    return changed


def _change(draw: st.DrawFn, value: Any) -> Any:
    """Go down to a random part, and replace, remove or add one there."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        action = draw(st.sampled_from(["descend"] * 4 + ["remove", "add"]))
        rest = {name: part for name, part in value.items() if name != key}
        if action == "remove":
            return rest
        if action == "add":
            return {**value, draw(st.sampled_from(["zzz", *TEXTS])): draw(ODD_VALUES)}
        return {**value, key: _change(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        position = draw(st.integers(0, len(value) - 1))
        return [*value[:position], _change(draw, value[position]), *value[position + 1 :]]
    return draw(ODD_VALUES)
