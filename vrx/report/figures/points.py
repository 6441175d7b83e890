"""Points, names and groups that figures of several runs share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vrx.metrics.aggregate import standard_error
from vrx.report.collect import Run
from vrx.report.figures.line_plot import Points


def mean_points(xs: Sequence[float], values: Sequence[float]) -> Points:
    """At each x the mean of the values (one a seed), and its standard error where there are several."""
    values_at: dict[float, list[float]] = {}
    for x, value in zip(xs, values, strict=True):
        values_at.setdefault(x, []).append(value)
    return tuple(
        (x, statistics.fmean(ys), standard_error(ys) if len(ys) > 1 else None) for x, ys in sorted(values_at.items())
    )


def tuned_layers_label(run: Run) -> str:
    """`all layers tuned`, or how many."""
    return "all layers tuned" if len(run.layers) in (0, run.depth) else f"{len(run.layers)} layers tuned"


def unique_name(name: str, taken: Sequence[str]) -> str:
    """The name, with a number behind it where an earlier figure of the same model has it."""
    number = 1 + sum(other == name or other.startswith(f"{name}_") for other in taken)
    return f"{name}_{number}" if number > 1 else name
