"""Which layers a row of the paper means in a model of any depth, the runs that fill it, and its label there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import yaml

from vrx.config.paths import CONF
from vrx.config.resolve import resolve_name
from vrx.report.collect import Run
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
    if "layers" in options:
        return None
    arguments = {key: value for key, value in options.items() if key not in ("name", "rule")}
    return resolve_name("rule", options["rule"], key="selector.rule")(depth, row.num_layers, **arguments)


def row_selector(row: PaperRow, depth: int, paper: Paper) -> str | None:
    """The selector of a row whose layers only the scores of a model of `depth` layers tell; None where they are known.

    The paper's lists by importance are for the depth of its models; at another one the selector that orders the
    model's own layers by the same score takes their place.
    """
    if row.selector is None or row_layers(row, depth, paper) is not None:
        return None
    return _selector_options(row.selector).get("other_depths")


def row_runs(row: PaperRow, runs: Sequence[Run], depth: int, paper: Paper) -> list[Run]:
    """Of the runs of a model of `depth` layers those that a row is made of, whatever data they were tuned on."""
    layers = row_layers(row, depth, paper)
    if layers is not None:
        return [run for run in runs if run.layers == set(layers) and run.is_tuned == bool(layers)]
    selector, tuned = row_selector(row, depth, paper), [run for run in runs if run.is_tuned]
    return [run for run in tuned if selector in run.record.selectors and len(run.layers) == row.num_layers]


def label_at_depth(row: PaperRow, depth: int, paper: Paper) -> str:
    """The label of a row for a model of `depth` layers: `Fully trained (30 layers)`, `angular distance`."""
    if selector := row_selector(row, depth, paper):
        return selector_label(selector)
    return row.label.replace(f"{row.num_layers} layers", f"{depth} layers") if row.selector == "all" else row.label


def selector_label(selector: str) -> str:
    """The label of a row of runs whose layers a selector chose, as by scores of the model itself."""
    return selector.replace("_", " ")


@functools.cache
def _selector_options(name: str) -> dict[str, Any]:
    """The content of conf/selector/<name>.yaml."""
    return yaml.safe_load((CONF / "selector" / f"{name}.yaml").read_text(encoding="utf-8"))
