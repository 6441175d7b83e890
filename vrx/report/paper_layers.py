"""Which layers a row of the paper means in a model of any depth, and its label there."""

from __future__ import annotations

import functools
from typing import Any

import yaml

from vrx.config.paths import CONF
from vrx.config.resolve import resolve_name
from vrx.report.paper import Paper, PaperRow


def row_layers(row: PaperRow, depth: int, paper: Paper) -> tuple[int, ...] | None:
    """The layers that a row of the paper tunes in a model of `depth` layers.

    The printed list where the depth is the paper's, else by the rule of the row's selector. None where there is no
    such rule: a list by importance says nothing about another depth.
    """
    if row.num_layers == 0:
        return ()
    if row.selector == "all":
        return tuple(range(depth))
    if row.layers and paper.models[row.model].num_layers == depth:
        return row.layers
    if row.selector is None or row.num_layers > depth:
        return None
    options = _selector_options(row.selector)
    if "layers" in options or "formula" in options:
        return None
    arguments = {key: value for key, value in options.items() if key not in ("name", "rule")}
    return resolve_name("rule", options["rule"], key="selector.rule")(depth, row.num_layers, **arguments)


def label_at_depth(row: PaperRow, depth: int) -> str:
    """The label of a row for a model of `depth` layers: `Fully trained (30 layers)`."""
    return row.label.replace(f"{row.num_layers} layers", f"{depth} layers") if row.selector == "all" else row.label


@functools.cache
def _selector_options(name: str) -> dict[str, Any]:
    """The content of conf/selector/<name>.yaml."""
    return yaml.safe_load((CONF / "selector" / f"{name}.yaml").read_text(encoding="utf-8"))
