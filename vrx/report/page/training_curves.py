"""Training curves of all runs over each other, from their logs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vrx.report.collect import Run
from vrx.report.page.charts import Axis, PageChart, Point, Series, thinned
from vrx.report.training_time import is_number, read_train_log

QUANTITIES = {"loss": "training loss", "grad_norm": "gradient norm"}  # columns of train.jsonl
MAX_POINTS = 100  # of a curve
FEW_POINTS = 20  # of a smoothed one
MAX_CURVES = 120  # of a chart


def curve_charts(runs: Sequence[Run]) -> list[PageChart]:
    """For a model's runs a chart of each quantity; runs of the same layers have one colour, and one entry in the
    legend. Steps are averaged where there are many."""
    logs = [(run, rows) for run in runs[:MAX_CURVES] if (rows := read_train_log(run.folder))]
    groups = list(dict.fromkeys((_name(run)) for run, _ in logs))
    charts = []
    for quantity, title in QUANTITIES.items():
        series = []
        for run, rows in logs:
            points = [
                Point(float(row["step"]), float(row[quantity]), None, f"seed {run.seed}, step {row['step']}")
                for row in rows
                if is_number(row.get(quantity))
            ]
            if len(points) > 1:
                colour = groups.index(_name(run))
                series.append(Series(_name(run), thinned(points, MAX_POINTS), colour, markers=False))
        if len(series) > 1:
            charts.append(PageChart(f"{title}, mean over seeds, smoothed", Axis("step"), Axis(title), _means(series)))
        if series:
            charts.append(PageChart(title, Axis("step"), Axis(title), tuple(series)))
    return charts


def _means(series: Sequence[Series]) -> tuple[Series, ...]:
    """For each name one curve of few points: the mean over its curves, where they have the same steps."""
    by_name: dict[str, list[Series]] = {}
    for each in series:
        by_name.setdefault(each.name, []).append(each)
    means = []
    for name, curves in by_name.items():
        number = min(len(curve.points) for curve in curves)
        points = [
            Point(curves[0].points[index].x, statistics.fmean(curve.points[index].y for curve in curves))
            for index in range(number)
        ]
        means.append(Series(name, thinned(points, FEW_POINTS), curves[0].colour))
    return tuple(means)


def _name(run: Run) -> str:
    names = sorted(set(run.record.selectors) - {"layers", "all"})
    number = f"all {run.depth}" if len(run.layers) == run.depth else str(len(run.layers))
    data = "" if run.fraction == 1 else f", {100 * run.fraction:g} % of the data"
    return f"{number} layers{', ' if names else ''}{' / '.join(names).replace('_', ' ')}{data}"
