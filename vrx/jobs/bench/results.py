"""Measured costs as a table and a figure: pure functions of what `vrx job=bench` measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrx.report.paper import Artefact
from vrx.report.plots import Line, Panel, Plot


@dataclass
class Cost:
    """Of training one way: seconds of every timed step of all rounds, and what a step needs."""

    way: str  # peer, paper, fast; or fast without one of its switches
    num_layers: int
    seconds: list[float] = field(default_factory=list)
    tokens: float = 0.0  # of a step
    operations: float = 0.0  # of a step, see vrx/operations.py
    waiting: float = 0.0  # seconds of a step
    ceilings: list[float] = field(default_factory=list)  # operations a second, measured beside each round
    peak_memory_gb: float = 0.0
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def share_of_ceiling(self) -> float:
        return self.operations / self.median / statistics.median(self.ceilings)


HEAD = (
    "layers",
    "s a step",
    "(min to max)",
    "tokens/s",
    "of the peer",
    "saved",
    "of ceiling",
    "TFLOP",
    "waits s",
    "GB",
)


def results_table(costs: Sequence[Cost], inference: dict[str, Any], *, about: str, full_run: int | None = None) -> str:
    """Markdown: a row a way and number of layers; `of the peer` at as many layers, `saved` against all of them.

    full_run: steps of a full run times its devices, for a column of device-hours.
    """
    at = {(cost.way, cost.num_layers): cost for cost in costs}
    most = max(cost.num_layers for cost in costs)
    lines = [["training", *HEAD, *(["hours a full run"] if full_run else [])]]
    for cost in costs:
        peer, whole = at.get(("peer", cost.num_layers)), at.get((cost.way, most))
        lines.append(
            [
                cost.way,
                str(cost.num_layers),
                f"{cost.median:.3g}",
                f"{min(cost.seconds):.3g} to {max(cost.seconds):.3g}",
                f"{cost.tokens / cost.median:,.0f}",
                f"{cost.median / peer.median:.2f}" if peer else "",
                f"{100 * (1 - cost.median / whole.median):.0f} %" if whole and whole is not cost else "",
                f"{100 * cost.share_of_ceiling:.0f} %",
                f"{cost.operations / 1e12:.3g}",
                f"{cost.waiting:.2g}",
                f"{cost.peak_memory_gb:.1f}",
                *([f"{cost.median * full_run / 3600:,.1f}"] if full_run else []),
            ]
        )
    told = [about, "", *_aligned(lines)]
    if inference:
        rows = [["inference", "ms a sample", "samples/s"]]
        for name, work in inference["works"].items():
            rows.append([name, f"{1e3 * work['seconds']:.3g}", f"{1 / work['seconds']:.3g}"])
        told += ["", *_aligned(rows)]
    return "\n".join(told) + "\n"


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    rows = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in lines
    ]
    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return [rows[0], rule, *rows[1:]]


def results_figure(
    costs: Sequence[Cost], artefact: Artefact, *, model: str, about: str, full_size: Mapping[int, float]
) -> Plot:
    """Figure 3 anew: a step's time against the number of layers, in percent of all layers by the same way, beside the
    operations that the model needs in full size by number of layers, and what the paper says is saved."""
    most = max(cost.num_layers for cost in costs)
    by_way: dict[str, list[Cost]] = {}
    for cost in costs:
        by_way.setdefault(cost.way, []).append(cost)
    lines, seconds = [], []
    for way, unsorted in by_way.items():
        name, found = way if way == "peer" else f"recipe={way}", sorted(unsorted, key=lambda cost: cost.num_layers)
        whole = found[-1]
        spread = [statistics.stdev(cost.seconds) if len(cost.seconds) > 1 else None for cost in found]
        pairs = list(zip(found, spread, strict=True))
        seconds.append(Line(name, tuple((float(cost.num_layers), cost.median, error) for cost, error in pairs)))
        if whole.num_layers == most and len(found) > 1:
            points = tuple((float(cost.num_layers), 100 * cost.median / whole.median, None) for cost in found)
            lines.append(Line(name, points))
    points = tuple((float(k), 100 * full_size[k] / full_size[most], None) for k in sorted(full_size))
    lines.append(Line("operations, full size", points))
    for row in artefact.rows_of(model):
        if row.values[0] is not None:
            point = (float(row.num_layers), 100 - row.values[0], None)
            lines.append(Line(f"published: {row.values[0]:g} % less", (point,), is_papers=True))
    panels = (
        Panel("a training step", "layers tuned", "seconds", tuple(seconds), from_zero=True),
        Panel("against all layers", "layers tuned", "% of the time", tuple(lines), from_zero=True),
    )
    return Plot("figure3_bench", artefact.title, panels, about)
