"""Charts of the page as plain numbers, which `charts.js` draws: with values on hover, and zoom.

The page draws its own charts, as a library for it is 1 to 5 MB in every page, and none can be read by keyboard.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vrx.report.figures.figure import Figure
from vrx.report.figures.heat_map import HeatMap
from vrx.report.figures.line_plot import STYLES, LinePlot, Panel
from vrx.report.figures.strip_plot import StripPlot, percentile

Scale = Literal["linear", "log2"]
DIGITS = 5  # significant ones of a number on the page
MAX_CELLS = 60_000  # of a heat map; a larger one is a picture


@dataclass(frozen=True)
class Point:
    """A point, half of its error bar (of y, or of x where the chart says so), and what a reader sees at it."""

    x: float
    y: float
    error: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points under one name. `colour` numbers the styles of the figures; `hollow` is for what is not ours or not best.

    joined: by straight lines, or by steps as a Pareto front is. level: a thin horizontal line.
    """

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    joined: Literal["", "line", "steps"] = "line"
    hollow: bool = False
    level: float | None = None
    markers: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis; `marks` are the names of the positions 0, 1, 2, ..."""

    name: str
    scale: Scale = "linear"
    marks: tuple[str, ...] = ()
    from_zero: bool = False


@dataclass(frozen=True)
class PageChart:
    """One pair of axes with its series."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    errors: Literal["x", "y"] = "y"

    def to_json(self) -> dict[str, Any]:
        """What `charts.js` reads."""
        series = [
            {
                **{name: getattr(each, name) for name in ("name", "colour", "joined", "hollow", "markers")},
                "level": _short(each.level),
                "points": [[_short(p.x), _short(p.y), _short(p.error), p.label] for p in each.points],
            }
            for each in self.series
        ]
        axes = {name: {**vars(axis), "marks": list(axis.marks)} for name, axis in (("x", self.x), ("y", self.y))}
        return {"kind": "points", "title": self.title, "errors": self.errors, **axes, "series": series}


@dataclass(frozen=True)
class HeatChart:
    """A heat map: rows of values, from left to right a layer each; null where a layer has none."""

    heat_map: HeatMap

    @property
    def title(self) -> str:
        return self.heat_map.value_name

    def to_json(self) -> dict[str, Any]:
        """What `charts.js` reads."""
        heat_map = self.heat_map
        low, high = heat_map.colour_range()
        return {
            "kind": "heat map",
            "title": self.title,
            "low": _short(low),
            "high": _short(high),
            "rows": [f"{benchmark} {sample}" for benchmark, sample in heat_map.samples],
            "groups": [[name, number] for name, number in heat_map.benchmarks],
            "values": [[_short(value) for value in row] for row in heat_map.values],
        }


def charts_of(figure: Figure) -> list[PageChart | HeatChart]:
    """The charts of a figure, a panel each; none of a figure of another kind, which is shown as its picture."""
    if isinstance(figure, LinePlot):
        return [panel_chart(panel) for panel in figure.panels]
    if isinstance(figure, StripPlot):
        return [_strip_chart(figure)]
    if isinstance(figure, HeatMap) and len(figure.values) * len(figure.values[0]) <= MAX_CELLS:
        return [HeatChart(figure)]
    return []


def panel_chart(panel: Panel) -> PageChart:
    """A panel of a line plot as a chart."""
    colours, series = itertools.count(), []
    for line in panel.lines:
        points = tuple(
            Point(x, y, error, panel.x_label(x) + (" ↑" if panel.is_marked(line, y) else ""))
            for x, y, error in line.points
        )
        colour = -1 if line.is_papers else next(colours) % len(STYLES)
        joined: Literal["", "line"] = "line" if panel.is_ordered else ""
        series.append(Series(line.name, points, colour, joined, hollow=line.is_papers, level=line.level))
    scale: Scale = "linear" if panel.from_zero or panel.marks else "log2"
    x = Axis(panel.x, scale, panel.marks, panel.from_zero)
    return PageChart(panel.title, x, Axis(panel.y, from_zero=panel.from_zero), tuple(series))


def thinned(points: Sequence[Point], number: int) -> tuple[Point, ...]:
    """At most `number` points, each the mean of neighbours; the same points where there are no more."""
    if len(points) <= number:
        return tuple(points)
    bounds = [round(index * len(points) / number) for index in range(number + 1)]
    parts = [points[start:end] for start, end in itertools.pairwise(bounds)]
    return tuple(
        replace(part[-1], x=sum(p.x for p in part) / len(part), y=sum(p.y for p in part) / len(part)) for part in parts
    )


def _strip_chart(plot: StripPlot) -> PageChart:
    random = tuple(Point(value, 0.0, None, "random selection") for value in plot.random)
    rows = tuple(
        Point(row.value, float(height), row.error, f"{row.name}, percentile {percentile(row.value, plot.random):.0f}")
        for height, row in enumerate(plot.rows, start=1)
    )
    marks = (f"{len(plot.random)} random", *(row.name for row in plot.rows))
    series = (Series("random selections", random, -1, "", hollow=True), Series("selectors", rows, 0, ""))
    return PageChart(plot.value_name, Axis(plot.value_name), Axis("", marks=marks), series, errors="x")


def _short(value: float | None) -> float | None:
    """The number with few digits, as it is shown; None for what JSON has no number for."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(f"{value:.{DIGITS}g}")
