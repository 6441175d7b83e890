"""Plots as things to draw: lines in panels, as text, PNG or PDF. What is drawn is decided in `vrx/figures.py`."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any

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
Points = tuple[tuple[float, float, float | None], ...]  # x, y, spread over seeds or None


@dataclass(frozen=True)
class Line:
    """Points under one name."""

    name: str
    points: Points
    level: float | None = None  # a thin horizontal line in the same colour
    is_papers: bool = False  # drawn hollow and grey


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    from_zero: bool = False  # both axes linear, y from zero: for costs; else x is doubled from mark to mark
    marks: tuple[str, ...] = ()  # x is none of these but 0, 1, 2, ..., and this is what stands there
    is_ordered: bool = True  # else the points are not joined
    arrows: bool = False  # points above their line's level are marked so


@dataclass(frozen=True)
class Plot:
    """A figure to draw: panels side by side, a note beside the title."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    note: str = ""


def as_text(plot: Plot) -> str:
    """The plot's points, a line each."""
    lines = [plot.title]
    for panel in plot.panels:
        for line in panel.lines:
            told = ", ".join(
                f"{panel.marks[int(x)] if panel.marks else f'{x:g}'}: {y:.2f}"
                + (f" ±{e:.2f}" if e is not None else "")
                + " ↑" * _is_above(panel, line, y)
                for x, y, e in line.points
            )
            lines.append(f"  {panel.title}, {panel.y}, {line.name}: {told}")
    return "\n".join(lines) + "\n"


def _is_above(panel: Panel, line: Line, y: float) -> bool:
    return panel.arrows and line.level is not None and y > line.level


def draw(plot: Plot, form: str) -> bytes:
    """The plot as `png` or `pdf`; the same plot gives the same bytes, whenever and in whatever process it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
        figure = Figure(figsize=(1 + 3.1 * len(plot.panels), 3.6), layout="constrained")
        title = f"{plot.title} ({plot.note})" if plot.note else plot.title
        figure.suptitle(textwrap.fill(title, 12 + 38 * len(plot.panels)), fontsize=10)
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
        return saved(figure, form)


def saved(figure: Any, form: str) -> bytes:
    """A figure of matplotlib as a file's content, in which nothing tells when or by what it was made."""
    file = io.BytesIO()
    nothing = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
    figure.savefig(file, format=form, dpi=200, metadata=nothing[form])
    return file.getvalue()


def _draw_panel(axes, panel: Panel) -> None:  # axes: matplotlib's, which is imported only where one draws
    counts = sorted({x for line in panel.lines for x, _, _ in line.points})
    if panel.from_zero:  # marks that would touch are left out
        counts = [x for x, last in zip(counts, [-counts[-1], *counts], strict=False) if x - last > 0.04 * counts[-1]]
    if not panel.from_zero and not panel.marks:
        axes.set_xscale("log", base=2)
    axes.set_xticks(counts, labels=[panel.marks[int(x)] if panel.marks else f"{x:g}" for x in counts])
    if sum(map(len, panel.marks)) > 16:
        axes.tick_params(axis="x", labelrotation=45)
    axes.minorticks_off()
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    styles = iter(STYLES * (1 + len(panel.lines) // len(STYLES)))
    for line in panel.lines:
        style = ("#777777", "o", (0, (2, 2))) if line.is_papers else next(styles)
        _draw_line(axes, line, style if panel.is_ordered else (*style[:2], "none"))
        for x, y, _ in line.points:
            if _is_above(panel, line, y):
                axes.annotate("↑", (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)
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
