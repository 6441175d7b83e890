"""Training curves of all runs over each other, from their logs."""

from __future__ import annotations

import json
import lzma
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vrx.report.collect import Run
from vrx.report.figures.line_plot import STYLES
from vrx.report.page.charts import Axis, PageChart, Point, Series, thinned
from vrx.runs.results import compressed
from vrx.runs.run_dir import RunDir

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
                if _is_number(row.get(quantity))
            ]
            if len(points) > 1:
                colour = groups.index(_name(run)) % len(STYLES)
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


def read_train_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's training log, or of its compressed copy; those before one that cannot be read."""
    path = RunDir(folder).train_log
    try:
        text = path.read_bytes() if path.is_file() else lzma.decompress(compressed(path).read_bytes())
    except (OSError, lzma.LZMAError, EOFError):
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if isinstance(row, dict) and _is_number(row.get("step")):
            rows.append(row)
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)


def _name(run: Run) -> str:
    names = sorted(set(run.record.selectors) - {"layers", "all"})
    number = f"all {run.depth}" if len(run.layers) == run.depth else str(len(run.layers))
    data = "" if run.fraction == 1 else f", {100 * run.fraction:g} % of the data"
    return f"{number} layers{', ' if names else ''}{' / '.join(names).replace('_', ' ')}{data}"
