"""A plot that two processes draw."""

from __future__ import annotations

from vrx.report.figures.line_plot import Line, LinePlot, Panel

POINTS = ((1.0, 40.0, 1.5), (8.0, 60.0, None), (32.0, 61.0, None))
LINES = (Line("a", POINTS, level=58.0), Line("b", POINTS, is_papers=True))
PLOT = LinePlot("p", "A plot", tuple(Panel(title, "x", "y", LINES) for title in ("one", "two")))
