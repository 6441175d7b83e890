"""Numbers as options: `layer_count=7`, `layer_count=25pct`, `data_fraction=0.1`.

Hydra takes only names of options. A number becomes such a name, and the option is made here unless `conf/` has it.
"""

from __future__ import annotations

import re

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from vrx.config.paths import CONF

GROUPS = ("layer_count", "data_fraction")


def expand_number(override: str) -> str:
    """The override with option names in place of numbers, also in lists and ranges of a sweep."""
    group, _, text = override.partition("=")
    if group not in GROUPS or not re.search(r"\d", text):
        return override
    try:
        parsed = OverridesParser.create().parse_override(override)
        values = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else [text]
    except (OverrideParseException, ValueError):  # Hydra reports it
        return override
    return f"{group}={','.join(_option(group, value) for value in values)}"


def _option(group: str, value: str) -> str:
    """The name of the option that a number stands for; any other value as it is."""
    value = value.strip()
    if group == "layer_count" and (count := re.fullmatch(r"(\d+)(?:_layers?)?", value)):
        number = int(count[1])
        return _named(group, f"{number}_layer" if number == 1 else f"{number}_layers", {"k": number})
    if percent := re.fullmatch(r"(\d+(?:\.\d+)?)pct", value):
        fraction = float(percent[1]) / 100
    elif re.fullmatch(r"\d*\.?\d+(?:e-\d+)?", value):
        fraction = float(value)
    else:
        return value
    return _named(group, f"{_percent(fraction)}pct", {"fraction": fraction})


def _percent(fraction: float) -> str:
    """A fraction in percent: six digits where they say it exactly, else all, so that no other one has its name."""
    short = f"{100 * fraction:g}"
    return short if float(short) / 100 == fraction else repr(100 * fraction)


def _named(group: str, name: str, node: dict[str, float]) -> str:
    if not (CONF / group / f"{name}.yaml").is_file():
        ConfigStore.instance().store(group=group, name=name, node=node, provider="vrx")
    return name
