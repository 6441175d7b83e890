"""Tables and numbers inside other Markdown files, such as a README: kept equal to the records they come from.

A block stands between two comments, `<!-- begin table1_tiny -->` and `<!-- end table1_tiny -->`.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from vrx.config.errors import UserError
from vrx.report.claims import Judgement, claims_as_markdown
from vrx.report.figures.figure import Figure
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.figures.strip_plot import StripPlot, percentile
from vrx.report.formats import markdown_rows, render_markdown
from vrx.report.tables import Table

BLOCK = re.compile(
    r"(?P<begin>^<!-- begin (?P<name>[\w.-]+) -->\n)(?P<content>.*?)(?P<end>^<!-- end (?P=name) -->$)", re.M | re.S
)


def markdown_blocks(tables: Sequence[Table], claims: Sequence[Judgement], figures: Sequence[Figure]) -> dict[str, str]:
    """What can be inserted, by name: tables, the claims of each model (`claims_<model>`), and figures as numbers."""
    return {
        **{figure.name: figure_as_markdown(figure) for figure in figures},
        **{table.name: render_markdown(table) for table in tables},
        **claims_as_markdown(claims),
    }


def figure_as_markdown(figure: Figure) -> str:
    """The numbers of a figure as tables; those of a heat map as they are printed.

    A line plot has a table for each quantity, with a row for each line; a strip plot has one table.
    """
    if isinstance(figure, StripPlot):
        return _strips_as_markdown(figure)
    if not isinstance(figure, LinePlot):
        return f"```text\n{figure.as_text().strip()}\n```\n"
    note = [f"- {figure.note}"] if figure.note else []
    tables = [
        [f"**{y}**", "", *markdown_rows(_lines_of([panel for panel in figure.panels if panel.y == y])), ""]
        for y in dict.fromkeys(panel.y for panel in figure.panels)
    ]
    return "\n".join([f"### {figure.title}", "", *(line for table in tables for line in table), *note]) + "\n"


def _strips_as_markdown(plot: StripPlot) -> str:
    """A row for each selector, the best first, then the random selections."""
    lines = [["selector", plot.value_name, "random selections below it (%)"]]
    for row in reversed(plot.rows):
        error = "" if row.error is None else f" ±{row.error:.2f}"
        lines.append([row.name, f"{row.value:.2f}{error}", f"{percentile(row.value, plot.random):.0f}"])
    number, low, high = len(plot.random), min(plot.random), max(plot.random)
    lines.append([f"{number} random selections, mean", f"{statistics.fmean(plot.random):.2f}", ""])
    lines.append([f"{number} random selections, range", f"{low:.2f} to {high:.2f}", ""])
    return "\n".join([f"### {plot.title}", "", *markdown_rows(lines)]) + "\n"


def _lines_of(panels: Sequence[Panel]) -> list[list[str]]:
    """A header and a row for each line; cells of positions that a line has no point at are empty."""
    xs = sorted({(x, panel.x_label(x)) for panel in panels for line in panel.lines for x, *_ in line.points})
    rows = [_cells(panel, line, xs) for panel in panels for line in panel.lines]
    return [[panels[0].x, *(label for _, label in xs)], *rows]


def _cells(panel: Panel, line: Line, xs: Sequence[tuple[float, str]]) -> list[str]:
    numbers = {(x, panel.x_label(x)): panel.number(line, y, error) for x, y, error in line.points}
    return [f"{panel.title}: {line.name}", *(numbers.get(position, "") for position in xs)]


def insert_blocks(text: str, blocks: Mapping[str, str], *, source: str) -> str:
    """The text with the content of each of its blocks replaced; `source` names it in errors.

    `UserError` where it has no block, or one of another name.
    """
    names = [match["name"] for match in BLOCK.finditer(text)]
    if not names:
        raise UserError(f"{source}: has no block <!-- begin <name> --> … <!-- end <name> -->")
    for name in names:
        if name not in blocks:
            raise UserError(f"{source}: no table or figure {name} in this report; there are {', '.join(blocks)}")
    return BLOCK.sub(lambda match: match["begin"] + blocks[match["name"]] + match["end"], text)
