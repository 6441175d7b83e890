"""Which layers a run tuned, as a strip with a cell a layer: small enough for every row of a table."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vrx.config.errors import UserError
from vrx.launch.logging import log
from vrx.report.collect import Run
from vrx.runs.files import digest
from vrx.runs.importance_files import SCORES_NAME, read_score_file
from vrx.runs.layer_selection import format_layers

CELL, HEIGHT, LOW = 5, 16, 4  # pixels: width of a cell with its gap, its height where tuned, and where not
NUM_SHADES = 6  # of importance; the page's style sheet has a colour for each
MAX_DEPTH = 512  # deeper models have no strip


@dataclass(frozen=True)
class Importance:
    """The importance score of each layer of a model by one formula, and whose scores they are."""

    formula: str
    source: str
    scores: tuple[float, ...]

    @property
    def shades(self) -> list[int]:
        """The shade of each layer: 0 for the least important ones to `NUM_SHADES` - 1."""
        order = sorted(range(len(self.scores)), key=lambda layer: self.scores[layer])
        return [NUM_SHADES * order.index(layer) // len(order) for layer in range(len(order))]


def strip(
    tuned: Collection[int],
    depth: int,
    importance: Importance | None = None,
    *,
    pruned: Collection[int] = (),
    reverted: Collection[int] = (),
    kinds: Mapping[int, str] | None = None,
) -> Markup:
    """An SVG picture: tuned layers are tall, others low, reverted ones hollow; of pruned ones a dot is left.

    kinds: of tuned layers, where the model has several; those of the rarer kinds have a white notch.
    """
    if not 0 < depth <= MAX_DEPTH:
        return Markup("")
    shades = importance.shades if importance and len(importance.scores) == depth else None
    paths: dict[str, str] = {}
    for layer in range(depth):
        shade = "n" if shades is None else str(shades[layer])
        height = 2 if layer in pruned else HEIGHT if layer in tuned else LOW
        kind = "r" if layer in reverted else f"t{shade}" if layer in tuned else f"u{shade}"
        cell = f"M{CELL * layer} {HEIGHT - height}h{CELL - 1}v{height}h-{CELL - 1}z"
        paths[kind] = paths.get(kind, "") + cell
    rare = _rarer(kinds or {})
    paths |= {"k": "".join(f"M{CELL * layer + 1} 5h2v3h-2z" for layer in sorted(rare))} if rare else {}
    text = f"{format_layers(list(tuned)) or 'no layer'} of {depth} tuned"
    text += f"; {format_layers(list(pruned))} pruned" if pruned else ""
    text += f"; {format_layers(list(reverted))} reverted" if reverted else ""
    text += "".join(f"; {kind}: {format_layers(layers)}" for kind, layers in _by_kind(kinds or {}).items())
    size = {"width": CELL * depth, "height": HEIGHT}
    label = Markup(
        '<svg class="strip" role="img" aria-label="{text}" viewBox="0 0 {width} {height}" width="{width}" '
        'height="{height}"><title>{text}</title>'
    ).format(text=text, **size)
    drawn = (Markup('<path class="{}" d="{}"/>').format(kind, path) for kind, path in paths.items())
    return label + Markup("").join(drawn) + Markup("</svg>")


def run_strip(run: Run, importance: Importance | None = None) -> Markup:
    """The strip of a run."""
    kinds = dict(zip(run.record.layers, run.record.layer_kinds or (), strict=False))
    return strip(run.layers, run.depth, importance, pruned=run.pruned or (), reverted=run.reverted or (), kinds=kinds)


def _by_kind(kinds: Mapping[int, str]) -> dict[str, list[int]]:
    return {kind: [layer for layer, other in kinds.items() if other == kind] for kind in sorted(set(kinds.values()))}


def _rarer(kinds: Mapping[int, str]) -> set[int]:
    """The layers that are not of the most frequent kind."""
    by_kind = _by_kind(kinds)
    most = max(by_kind, key=lambda kind: len(by_kind[kind]), default="")
    return {layer for layer, kind in kinds.items() if kind != most}


def find_importance(runs: Sequence[Run], roots: Sequence[Path]) -> dict[str, Importance]:
    """By model the importance scores that colour its strips: of the first file of `vrx score` for the same weights,
    by its first formula. A file that cannot be read is left out with one line that names it."""
    weights = {run.model: digest(run.record.identity.get("weights")) for run in reversed(runs)}
    by_model: dict[str, Importance] = {}
    for path in (path for root in roots for path in sorted(root.glob(f"score/*/*/{SCORES_NAME}"))):
        model = path.parents[1].name
        if model not in weights or model in by_model:
            continue
        try:
            content = read_score_file(path)
            importance = _first(content["scores"], path.parent.name)
        except (OSError, UserError) as error:
            log(f"left out of the report: {error}")
            continue
        if importance and digest(content["model"]["weights"]) == weights[model]:
            by_model[model] = importance
    return by_model


def _first(scores: Mapping[str, list[float]], source: str) -> Importance | None:
    for formula, values in sorted(scores.items()):
        if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            return Importance(formula, source.rpartition("_")[0] or source, tuple(map(float, values)))
    return None
