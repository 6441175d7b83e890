"""From a selector and a number to decoder layers, as far as no file is needed for it."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig
from vrx.selectors.kinds import ANY, select

SCORE_OPTIONS = ("scores", "scores_from_fraction")
NO_OPTIONS = (
    "name",
    "rule",
    "formula",
    "depth",
    "other_depths",
    "kinds",
    *SCORE_OPTIONS,
)  # every other field of a selector is an option of its rule


def num_selected(run: RunConfig) -> int:
    """How many layers to select: `k`, the fraction of the decoder, or the length of an explicit list."""
    if run.selector.layers is not None and run.selector.rule != "fixed":
        return len(run.selector.layers)
    if run.layer_count.fraction is not None:
        return max(1, math.floor(run.layer_count.fraction * run.model.num_layers + 0.5))
    assert run.layer_count.k is not None, "validate() lets no other through"
    return run.layer_count.k


def needs_scores(run: RunConfig) -> bool:
    """Whether the selector orders layers by importance scores, which are a file."""
    return run.selector.layers is None and run.selector.formula is not None


def needs_kinds(run: RunConfig) -> bool:
    """Whether the selector tells kinds of layers apart, which the model's files say."""
    return run.selector.layers is None and run.selector.kinds not in (None, ANY)


def apply_rule(
    run: RunConfig, scores: Sequence[float | None] | None = None, kinds: Sequence[str] | None = None
) -> tuple[int, ...]:
    """The layers that the selector's rule chooses; an explicit list wins. `UserError` where the rule cannot.

    scores: one importance score a layer, for a selector that `needs_scores`. kinds: of every layer, for one that
    `needs_kinds`.
    """
    if not needs_kinds(run):
        return _choose(run, run.model.num_layers, num_selected(run), scores)
    assert kinds is not None

    def rule(layers: Sequence[int], count: int) -> tuple[int, ...]:
        of_kind = None if scores is None else [scores[layer] for layer in layers]
        return _choose(run, len(layers), count, of_kind)

    return select(kinds, num_selected(run), wanted=str(run.selector.kinds), rule=rule)


def _choose(run: RunConfig, depth: int, k: int, scores: Sequence[float | None] | None) -> tuple[int, ...]:
    selector = run.selector
    if selector.depth not in (None, run.model.num_layers):
        raise UserError(
            f"selector={selector.name}: its list is for models of {selector.depth} decoder layers, "
            f"model={run.model.name} has {run.model.num_layers}; valid is selector={selector.other_depths}"
        )
    explicit = selector.layers is not None
    name = "fixed" if explicit else selector.rule
    options = {key: value for key, value in dataclasses.asdict(selector).items() if value is not None}
    keys = ("layers",) if explicit else [key for key in options if key not in NO_OPTIONS]
    arguments = {key: options[key] for key in keys}
    rule = resolve_name("rule", name, key="selector.rule")
    if needs_scores(run):
        arguments["scores"] = scores
    elif not explicit and (unused := [key for key in SCORE_OPTIONS if key in options]):
        raise UserError(f"selector.{unused[0]}={options[unused[0]]}: selector={selector.name} orders by no scores")
    parameters = inspect.signature(rule).parameters
    for key, value in arguments.items():
        if key not in parameters:
            valid = [f"selector.{option}" for option in list(parameters)[2:] if option != "scores"]
            raise UserError(f"selector.{key}={value}: not an option of {name}; valid: {', '.join(valid) or 'none'}")
    for key, parameter in list(parameters.items())[2:]:
        if parameter.default is parameter.empty and key not in arguments:
            raise UserError(f"selector.{'formula' if key == 'scores' else key}=null: {name} needs a value")
    return rule(depth, k, **arguments)
