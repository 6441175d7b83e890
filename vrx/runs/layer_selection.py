"""The decoder layers that a run tunes, by its selector."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.layers import apply_rule, needs_kinds, needs_scores
from vrx.config.schema import LayerCountConfig, RunConfig
from vrx.runs import importance_files
from vrx.runs.counted_model import layer_kinds
from vrx.runs.hub import download_command
from vrx.runs.record import LayerScores
from vrx.selectors.kinds import ANY, missed


def select_layers(run: RunConfig, data_digest: str = "") -> tuple[int, ...]:
    """The decoder layers this run tunes; data_digest: see `choose_layers`."""
    return choose_layers(run, data_digest)[0]


def choose_layers(run: RunConfig, data_digest: str = "") -> tuple[tuple[int, ...], LayerScores | None]:
    """The decoder layers this run tunes, and the importance scores that its selector orders them by, if any.

    data_digest: of the run's instruction data, as `run_data.digest` gives it; a selector by importance takes the scores
    of a fine-tune on these data.
    """
    scores = importance_files.for_selector(run, data_digest) if needs_scores(run) else None
    kinds = None
    if needs_kinds(run):  # the layers of LLaVA and Bunny are of one kind
        kinds = ["full_attention"] * run.model.num_layers if run.model.is_assembled else layer_kinds(run)
    if needs_kinds(run) and kinds is None:
        raise UserError(
            f"selector.kinds={run.selector.kinds}: kinds of layers are known once {run.model.lvlm} is on this machine; "
            f"run: {download_command(str(run.model.lvlm))}"
        )
    return apply_rule(run, scores and scores.values, kinds), scores


def kinds_missed(run: RunConfig, layers: Sequence[int], kinds: Sequence[str] | None) -> str | None:
    """One line on the kinds of layers of which a selection has none; None where it has all."""
    absent = missed(kinds, layers) if kinds else {}
    if not absent:
        return None
    named = " and ".join(f"none of {count} layers of {kind}" for kind, count in absent.items())
    return f"selector={run.selector.name} chooses {named}; selector.kinds=each chooses of each kind"


def with_frozen_layers(run: RunConfig, layers: Sequence[int]) -> RunConfig:
    """The run with its layers as an explicit list, and `layer_count` as their number: what its workers read."""
    selector = dataclasses.replace(run.selector, layers=list(layers), kinds=None)
    return dataclasses.replace(run, selector=selector, layer_count=LayerCountConfig(k=len(layers)))


def selector_label(run: RunConfig) -> str:
    """What the run's selector is called in its record: its name, and what else decides on the layers."""
    selector, parts = run.selector, [run.selector.name]
    if selector.layers and selector.rule != "fixed":
        return "layers"
    if selector.scores is not None:
        parts.append(f"by_{Path(selector.scores).parent.name}")
    elif selector.scores_from_fraction is not None:
        parts.append(f"from_{100 * selector.scores_from_fraction:g}pct")
    if selector.kinds not in (None, ANY):
        parts.append(f"kinds_{selector.kinds}")
    return "_".join([*parts, "reversed"] if selector.reverse else parts)


def format_layers(layers: Sequence[int]) -> str:
    """Layers as text: `0 to 3, 28, 30`; three or more consecutive ones as a range."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    texts = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else list(map(str, run)) for run in runs]
    return ", ".join(text for group in texts for text in group)
