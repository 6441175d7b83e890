"""From the short name that a configuration key gives to the code it names.

Each key looks in one package only: `metric: gqa_match` is a function of `vrx.metrics` and nothing else.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from vrx.config.errors import UserError

# Where a name of each kind is looked for: {} is the name, the part behind the colon the function.
HOMES = {
    "metric": "vrx.metrics.per_answer:{} vrx.metrics.other_toolkits:{}",
    "family": "vrx.evaluation.families:{}",
    "reader": "vrx.evaluation.readers.{}:rows",
    "rule": "vrx.selectors.rules:{}",
    "world": "vrx.{}.data:build",
    "job": "vrx.jobs.{}.driver:{}",
    "architecture": "vrx.models.architectures:{}",
}


def resolve_name(kind: str, name: str, *, key: str | None = None) -> Callable[..., Any]:
    """The function that a short name stands for.

    kind: one of `HOMES`; key: the configuration key for the error, by default the kind. `UserError` where there is no
    such function, or where the name tries to leave its package.
    """
    key = key or kind
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{key}={name}: not a short name; valid: {', '.join(known_names(kind))}")
    for home in HOMES[kind].split():
        module_name, _, attribute = home.replace("{}", name).partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and module_name.startswith(error.name):
                continue
            raise
        function = getattr(module, attribute, None)
        if _is_public_function(module, attribute, function):
            assert callable(function)
            return function
    raise UserError(_unknown(kind, name, key))


def known_names(kind: str) -> list[str]:
    """Every valid name of a kind."""
    import pkgutil

    module_name = HOMES[kind].partition(":")[0]
    if "{}" in module_name:
        parent = importlib.import_module(module_name.partition(".{}")[0])
        if kind == "world":
            return ["small", "tiny"]
        if kind == "job":
            return sorted(path.parent.name for path in Path(parent.__path__[0]).glob("*/driver.py"))
        return [module.name for module in pkgutil.iter_modules(parent.__path__)]
    modules = [importlib.import_module(home.partition(":")[0]) for home in HOMES[kind].split()]
    return [
        name for module in modules for name in vars(module) if _is_public_function(module, name, vars(module)[name])
    ]


def _is_public_function(module: ModuleType, name: str, value: Any) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")


def _unknown(kind: str, name: str, key: str) -> str:
    names = known_names(kind)
    close = difflib.get_close_matches(name, names, 1)
    return f"{key}={name}: no such {kind}; {f'did you mean {close[0]}? ' if close else ''}valid: {', '.join(names)}"
