"""Measured training costs as a table and a figure: pure functions of the measurements."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrx.jobs.bench.variants import BASELINE
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.paper import Artifact


@dataclass
class VariantCost:
    """What training one variant costs: the seconds of every timed step of all rounds, and means per step."""

    variant: str  # baseline, paper, fast, or fast with one setting changed
    num_layers: int
    seconds: list[float] = field(default_factory=list)
    tokens: float = 0.0  # per step
    flops: float = 0.0  # per step, see vrx/training/flops.py
    seconds_waiting_for_data: float = 0.0  # per step
    matmul_flops_per_second: list[float] = field(default_factory=list)  # measured next to each round
    peak_memory_gb: float = 0.0
    switches: dict[str, object] = field(default_factory=dict)  # the recipe's switches that were on

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def mfu(self) -> float:
        """Share of the measured matmul throughput."""
        return self.flops / self.median / statistics.median(self.matmul_flops_per_second)


HEAD = (
    "layers",
    "s/step",
    "(min to max)",
    "tokens/s",
    "vs baseline",
    "saved",
    "MFU",
    "TFLOPs",
    "data wait s",
    "GB",
)


def results_table(
    costs: Sequence[VariantCost], inference: dict[str, Any], *, about: str, full_run: int | None = None
) -> str:
    """A Markdown table with one row for each variant and number of layers.

    `vs baseline` compares at the same number of layers, `saved` with the same variant that tunes most layers.
    full_run: steps of a full run times its devices, for a column of device-hours.
    """
    by_key = {(cost.variant, cost.num_layers): cost for cost in costs}
    most = max(cost.num_layers for cost in costs)
    rows = [["training", *HEAD, *(["hours per full run"] if full_run else [])]]
    for cost in costs:
        baseline = by_key.get((BASELINE, cost.num_layers))
        all_layers = by_key.get((cost.variant, most)) if cost.num_layers != most else None
        rows.append(
            [
                cost.variant,
                str(cost.num_layers),
                f"{cost.median:.3g}",
                f"{min(cost.seconds):.3g} to {max(cost.seconds):.3g}",
                f"{cost.tokens / cost.median:,.0f}",
                f"{cost.median / baseline.median:.2f}" if baseline else "",
                f"{100 * (1 - cost.median / all_layers.median):.0f} %" if all_layers else "",
                f"{100 * cost.mfu:.0f} %",
                f"{cost.flops / 1e12:.3g}",
                f"{cost.seconds_waiting_for_data:.2g}",
                f"{cost.peak_memory_gb:.1f}",
                *([f"{cost.median * full_run / 3600:,.1f}"] if full_run else []),
            ]
        )
    lines = [about, "", *_aligned(rows)]
    if inference:
        rows = [["inference", "ms/sample", "samples/s"]]
        for name, timing in inference["timings"].items():
            rows.append([name, f"{1e3 * timing['seconds']:.3g}", f"{1 / timing['seconds']:.3g}"])
        lines += ["", *_aligned(rows)]
    return "\n".join(lines) + "\n"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return [lines[0], rule, *lines[1:]]


def results_figure(
    costs: Sequence[VariantCost], artifact: Artifact, *, model: str, about: str, full_size: Mapping[int, float]
) -> LinePlot:
    """Figure 3 with our measurements: seconds of a step by the number of tuned layers.

    The second panel shows percent of the time of the same variant with all layers, the FLOPs of the full-size model
    (`full_size`: FLOPs by number of layers) and the paper's printed saving.
    """
    most = max(cost.num_layers for cost in costs)
    by_variant: dict[str, list[VariantCost]] = {}
    for cost in sorted(costs, key=lambda cost: cost.num_layers):
        by_variant.setdefault(cost.variant, []).append(cost)
    seconds = [_seconds_line(_title(name), series) for name, series in by_variant.items()]
    relative = [
        Line(
            _title(name),
            tuple((float(cost.num_layers), 100 * cost.median / series[-1].median, None) for cost in series),
        )
        for name, series in by_variant.items()
        if series[-1].num_layers == most and len(series) > 1
    ]
    points = tuple((float(k), 100 * full_size[k] / full_size[most], None) for k in sorted(full_size))
    relative.append(Line("FLOPs, full size", points))
    for row in artifact.rows_of(model):
        if row.values[0] is not None:
            point = (float(row.num_layers), 100 - row.values[0], None)
            relative.append(Line(f"published: {row.values[0]:g} % less", (point,), is_papers=True))
    panels = (
        Panel("a training step", "layers tuned", "seconds", tuple(seconds), from_zero=True),
        Panel("against all layers", "layers tuned", "% of the time", tuple(relative), from_zero=True),
    )
    return LinePlot("figure3_bench", artifact.title, panels, about)


def _title(variant: str) -> str:
    return variant if variant == BASELINE else f"recipe={variant}"


def _seconds_line(name: str, series: Sequence[VariantCost]) -> Line:
    spreads = [statistics.stdev(cost.seconds) if len(cost.seconds) > 1 else None for cost in series]
    points = zip(series, spreads, strict=True)
    return Line(name, tuple((float(cost.num_layers), cost.median, spread) for cost, spread in points))
