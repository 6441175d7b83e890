"""The decoder layers that a run tunes, by its selector."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig
from vrx.runs import importance_files


def num_selected(run: RunConfig) -> int:
    """How many layers to select: `k`, the fraction of the decoder, or the length of an explicit list."""
    if run.selector.layers is not None and run.selector.rule != "fixed":
        return len(run.selector.layers)
    if run.layer_count.fraction is not None:
        return max(1, math.floor(run.layer_count.fraction * run.model.num_layers + 0.5))
    assert run.layer_count.k is not None, "check() lets no other through"
    return run.layer_count.k


def select_layers(run: RunConfig) -> tuple[int, ...]:
    """The decoder layers this run tunes."""
    options = dataclasses.asdict(run.selector)
    explicit = options["layers"] is not None
    target = "fixed" if explicit else options["rule"]
    keys = ("layers",) if explicit else ("offset", "start", "seed", "reverse")
    arguments = {key: options[key] for key in keys if options[key] is not None}
    selector = resolve_name("rule", target, key="selector.rule")
    if not explicit and options["formula"] is not None:
        arguments["scores"] = importance_files.for_selector(run)
    elif not explicit and (idle := [key for key in ("scores", "scores_from_fraction") if options[key] is not None]):
        raise UserError(f"selector.{idle[0]}={options[idle[0]]}: selector={options['name']} orders by no scores")
    try:
        inspect.signature(selector).bind(run.model.num_layers, num_selected(run), **arguments)
    except TypeError as error:
        given = ", ".join(f"selector.{key}={value}" for key, value in arguments.items())
        raise UserError(f"{given or 'selector.rule=' + target}: {selector.__name__}: {error}") from None
    return selector(run.model.num_layers, num_selected(run), **arguments)


def selector_label(run: RunConfig) -> str:
    """What the run's selector is called in its record: its name, and what else decides on the layers."""
    given, parts = run.selector, [run.selector.name]
    if given.layers and given.rule != "fixed":
        return "layers"
    if given.scores is not None:
        parts.append(f"by_{Path(given.scores).parent.name}")
    elif given.scores_from_fraction is not None:
        parts.append(f"from_{100 * given.scores_from_fraction:g}pct")
    return "_".join([*parts, "reversed"] if given.reverse else parts)


def format_layers(layers: Sequence[int]) -> str:
    """0 to 3, 28, 30: neighbours from three on told by the first and the last."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    told = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run)) for run in runs]
    return ", ".join(text for texts in told for text in texts)
