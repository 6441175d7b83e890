"""Line plots: lines in panels side by side. Which lines is decided by the builders of the figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrx.report.figures.figure import Chart, FileFormat, image_bytes, set_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = tuple[str, str, str | tuple[float, Sequence[float]]]  # colour, marker, line style

# Okabe and Ito's colours without yellow, darkest first for print in grey; each line has its own marker too.
STYLES: list[Style] = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#000000", "v", (0, (5, 1))),
    ("#E69F00", "P", (0, (1, 1))),
    ("#56B4E9", "X", (0, (3, 1, 1, 1))),
]
PAPER_STYLE: Style = ("#777777", "o", (0, (2, 2)))
Points = tuple[tuple[float, float, float | None], ...]  # x, y, half of its error bar or None


@dataclass(frozen=True)
class Line:
    """Points under one name."""

    name: str
    points: Points
    level: float | None = None  # a thin horizontal line in the same colour
    is_papers: bool = False  # drawn hollow and grey


@dataclass(frozen=True)
class Panel:
    """One pair of axes. x is logarithmic to base 2 unless `from_zero` or `marks` says otherwise."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    from_zero: bool = False  # both axes linear, y from zero: for costs
    marks: tuple[str, ...] = ()  # names of the positions x = 0, 1, 2, ...
    is_ordered: bool = True  # else the points are not joined
    arrows: bool = False  # an arrow marks points above the level of their line
    is_log_y: bool = False

    def is_marked(self, line: Line, y: float) -> bool:
        """Whether an arrow marks this point."""
        return self.arrows and line.level is not None and y > line.level

    def number(self, line: Line, y: float, error: float | None) -> str:
        """A point's value as text, with its error and arrow where it has them."""
        spread = "" if error is None else f" ±{error:.2f}"
        return f"{y:.2f}{spread}{' ↑' if self.is_marked(line, y) else ''}"

    def x_label(self, x: float) -> str:
        """What is written at a position of the x axis."""
        return self.marks[int(x)] if self.marks else f"{x:g}"


@dataclass(frozen=True)
class LinePlot:
    """A figure of panels side by side, with a note behind the title."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    note: str = ""

    def as_text(self) -> str:
        """A line of text for each line of the plot."""
        texts = [self.title]
        for panel in self.panels:
            for line in panel.lines:
                points = ", ".join(f"{panel.x_label(x)}: {panel.number(line, y, error)}" for x, y, error in line.points)
                texts.append(f"  {panel.title}, {panel.y}, {line.name}: {points}")
        return "\n".join([*texts, *([f"  {self.note}"] if self.note else [])]) + "\n"

    def charts(self) -> list[Chart]:
        """A chart a panel."""
        return [
            Chart(
                name=f"{self.name}_{number}",
                title=f"{self.title}: {panel.title}, {panel.y}",
                kind="lines",
                columns=(panel.x, "line", panel.y),
                rows=tuple((x, line.name, y) for line in panel.lines for x, y, _ in line.points),
            )
            for number, panel in enumerate(self.panels, start=1)
        ]

    def draw(self, file_format: FileFormat) -> bytes:
        """The plot as PNG or PDF; the same plot gives the same bytes in every process."""
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            set_style()
            matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
            figure = Figure(figsize=(1 + 3.1 * len(self.panels), 3.6), layout="constrained")
            title = f"{self.title} ({self.note})" if self.note else self.title
            figure.suptitle(textwrap.fill(title, 12 + 38 * len(self.panels)), fontsize=10)
            all_axes = figure.subplots(1, len(self.panels), squeeze=False)[0]
            for axes, panel in zip(all_axes, self.panels, strict=True):
                _draw_panel(axes, panel)
            legends = {tuple(line.name for line in panel.lines) for panel in self.panels}
            if len(legends) == 1 and len(self.panels) > 1:
                handles, labels = all_axes[0].get_legend_handles_labels()
                figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7, frameon=False)
            else:
                for axes in all_axes:
                    axes.legend(fontsize=7, frameon=False)
            return image_bytes(figure, file_format)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    if panel.is_log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # text is drawn as it is, without powers in TeX
    _draw_ticks(axes, panel)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    styles = iter(STYLES * (1 + len(panel.lines) // len(STYLES)))
    for line in panel.lines:
        colour, marker, dashes = PAPER_STYLE if line.is_papers else next(styles)
        _draw_line(axes, line, (colour, marker, dashes if panel.is_ordered else "none"))
        for x, y, _ in line.points:
            if panel.is_marked(line, y):
                axes.annotate("↑", (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    if panel.from_zero:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])


def _draw_ticks(axes: Axes, panel: Panel) -> None:
    ticks = sorted({x for line in panel.lines for x, _, _ in line.points})
    if panel.from_zero:  # ticks whose labels would overlap are left out
        ticks = [x for x, last in zip(ticks, [-ticks[-1], *ticks], strict=False) if x - last > 0.04 * ticks[-1]]
    elif not panel.marks:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, labels=[panel.x_label(x) for x in ticks])
    if sum(map(len, panel.marks)) > 16:
        axes.tick_params(axis="x", labelrotation=45)
    axes.minorticks_off()


def _draw_line(axes: Axes, line: Line, style: Style) -> None:
    colour, marker, dashes = style
    xs, ys, errors = zip(*line.points, strict=True)
    axes.plot(
        xs,
        ys,
        label=line.name,
        color=colour,
        marker=marker,
        markerfacecolor="white" if line.is_papers else colour,
        markersize=5,
        linestyle=dashes if len(line.points) > 1 else "none",
    )
    if any(errors):
        axes.errorbar(xs, ys, yerr=[value or 0.0 for value in errors], fmt="none", ecolor=colour, capsize=3)
    if line.level is not None:
        axes.axhline(line.level, color=colour, linestyle=(0, (1, 2)), linewidth=0.8)
