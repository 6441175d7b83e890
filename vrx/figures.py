"""Figures: pure functions of records and of the paper, `(runs, paper) -> plots`, and one way to draw a plot.

A further figure is a function of that form in `FIGURES`.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vrx.paper import Paper
from vrx.report.runs import Run, score_name, settings
from vrx.selectors import sparse_uniform

# Okabe and Ito's colours without the yellow, darkest first where it matters in grey; each line has its own marker too.
STYLES = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#000000", "v", (0, (5, 1))),
    ("#E69F00", "P", (0, (1, 1))),
    ("#56B4E9", "X", (0, (3, 1, 1, 1))),
]
KEPT = 0.98  # of all layers' score: the dashed lines of Figure 2


@dataclass(frozen=True)
class Line:
    """Points (x, y, spread over seeds or None) under one name."""

    name: str
    points: tuple[tuple[float, float, float | None], ...]
    level: float | None = None  # a thin horizontal line in the same colour
    is_papers: bool = False  # drawn hollow and grey


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    from_zero: bool = False  # both axes linear, y from zero: for costs; else x is doubled from mark to mark


@dataclass(frozen=True)
class Plot:
    """A figure to draw: panels side by side, a note beside the title."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    note: str = ""


def figure2(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Score against the number of layers for each amount of data, a panel a benchmark; one plot a model."""
    artefact, plots = paper.artefacts["figure2"], []
    for model, group in _by_model(runs):
        panels = []
        for place, column in enumerate(artefact.columns):
            lines = []
            for fraction in sorted({run.fraction for run in group}, reverse=True):
                found = [run for run in group if run.fraction == fraction and score_name(run, column)]
                scores = [run.record["scores"][score_name(run, column)]["value"] for run in found]
                points = _points(found, [100 * score for score in scores])
                whole = next((y for x, y, _ in points if x == group[0].depth), None)
                level = None if whole is None else KEPT * whole
                lines.append(Line(f"{100 * fraction:g} % of the data", points, level=level))
            printed = [(row.num_layers, row.values[place]) for row in artefact.rows_of(model)]
            known = tuple((float(x), y, None) for x, y in printed if y is not None)
            lines += [Line("paper, 100 %", known, is_papers=True)] if known else []
            if any(len(line.points) > 1 for line in lines if not line.is_papers):
                panels.append(Panel(paper.columns[column], "layers tuned", "score (%)", tuple(lines)))
        if panels:
            title = f"{artefact.title}, {_title(model, paper)}"
            plots.append(Plot(f"figure2_{model}", title, tuple(panels), f"thin lines: {100 * KEPT:g} % of all layers"))
    return plots


def figure3(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Training cost on all the data against the number of layers, a panel a model: GPU-hours, seconds without a GPU."""
    artefact, panels = paper.artefacts["figure3"], []
    for model, group in _by_model(runs):
        timed = [run for run in group if run.fraction == 1 and (run.record["train"] or {}).get("seconds")]
        on_gpus = bool(timed) and all(run.record["train"].get("gpu_hours") for run in timed)
        key, unit = ("gpu_hours", "GPU-hours") if on_gpus else ("seconds", "seconds of training")
        points = _points(timed, [run.record["train"][key] for run in timed])
        if len(points) < 2:
            continue
        lines = [Line("ours", points)]
        whole = [y for x, y, _ in points if x == group[0].depth]
        for row in artefact.rows_of(model) if whole else ():
            saved = row.values[0] or 0.0
            there = (float(row.num_layers), whole[0] * (1 - saved / 100), None)
            lines.append(Line(f"paper: {saved:g} % less than all layers", (there,), is_papers=True))
        panels.append(Panel(_title(model, paper), "layers tuned", unit, tuple(lines), from_zero=True))
    return [Plot("figure3", artefact.title, tuple(panels))] if panels else []


FIGURES: dict[str, Callable[[Sequence[Run], Paper], list[Plot]]] = {"figure2": figure2, "figure3": figure3}


def _title(model: str, paper: Paper) -> str:
    return paper.models[model].title if model in paper.models else model


def _by_model(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """For each model the runs of sparse, uniform layers (and of all) in its largest setting."""
    found = []
    for model in sorted({run.model for run in runs if run.is_tuned}):
        group = settings(list(runs), model)[0]
        found.append((model, [run for run in group if run.layers == set(sparse_uniform(run.depth, len(run.layers)))]))
    return [(model, group) for model, group in found if group]


def _points(runs: Sequence[Run], values: Sequence[float]) -> tuple[tuple[float, float, float | None], ...]:
    """By number of layers the mean over seeds, and their standard deviation where there are several."""
    by_count: dict[int, list[float]] = {}
    for run, value in zip(runs, values, strict=True):
        by_count.setdefault(len(run.layers), []).append(value)
    return tuple(
        (float(x), statistics.fmean(ys), statistics.stdev(ys) if len(ys) > 1 else None)
        for x, ys in sorted(by_count.items())
    )


def as_text(plot: Plot) -> str:
    """The plot's points, a line each."""
    lines = [plot.title]
    for panel in plot.panels:
        for line in panel.lines:
            told = ", ".join(f"{x:g}: {y:.2f}" + (f" ±{e:.2f}" if e is not None else "") for x, y, e in line.points)
            lines.append(f"  {panel.title}, {panel.y}, {line.name}: {told}")
    return "\n".join(lines) + "\n"


def draw(plot: Plot, form: str) -> bytes:
    """The plot as `png` or `pdf`; the same plot gives the same bytes, whenever and in whatever process it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
        figure = Figure(figsize=(1 + 3.1 * len(plot.panels), 3.6), layout="constrained")
        figure.suptitle(f"{plot.title} ({plot.note})" if plot.note else plot.title, fontsize=10)
        all_axes = figure.subplots(1, len(plot.panels), squeeze=False)[0]
        for axes, panel in zip(all_axes, plot.panels, strict=True):
            _draw_panel(axes, panel)
        named = {tuple(line.name for line in panel.lines) for panel in plot.panels}
        if len(named) == 1 and len(plot.panels) > 1:
            handles, labels = all_axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7, frameon=False)
        else:
            for axes in all_axes:
                axes.legend(fontsize=7, frameon=False)
        file = io.BytesIO()
        nothing = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
        figure.savefig(file, format=form, dpi=200, metadata=nothing[form])
    return file.getvalue()


def _draw_panel(axes, panel: Panel) -> None:  # axes: matplotlib's, which is imported only where one draws
    counts = sorted({x for line in panel.lines for x, _, _ in line.points})
    if panel.from_zero:  # marks that would touch are left out
        counts = [x for x, last in zip(counts, [-counts[-1], *counts], strict=False) if x - last > 0.04 * counts[-1]]
    if not panel.from_zero:
        axes.set_xscale("log", base=2)
    axes.set_xticks(counts, labels=[f"{x:g}" for x in counts])
    axes.minorticks_off()
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    styles = iter(STYLES * (1 + len(panel.lines) // len(STYLES)))
    for line in panel.lines:
        _draw_line(axes, line, ("#777777", "o", (0, (2, 2))) if line.is_papers else next(styles))
    if panel.from_zero:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])


def _draw_line(axes, line: Line, style: tuple) -> None:
    colour, marker, dashes = style
    look = {"color": colour, "marker": marker, "linestyle": dashes if len(line.points) > 1 else "none"}
    xs, ys, errors = zip(*line.points, strict=True)
    axes.plot(xs, ys, label=line.name, markerfacecolor="white" if line.is_papers else colour, markersize=5, **look)
    if any(errors):
        spread = [error or 0.0 for error in errors]
        axes.errorbar(xs, ys, yerr=spread, fmt="none", ecolor=colour, capsize=3)
    if line.level is not None:
        axes.axhline(line.level, color=colour, linestyle=(0, (1, 2)), linewidth=0.8)
