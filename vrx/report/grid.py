"""A table as lines of plain cells: ours, and under it what the paper prints; what Markdown and LaTeX are made from."""

from __future__ import annotations

from vrx.report.cells import Cell
from vrx.tables import Row, Table


def grid(table: Table) -> list[list[str]]:
    """The header, then a line or two for each row; the first cell of a line is its label."""
    lines = [["", *table.columns.values()]]
    for row in table.rows:
        lines.append([label(row), *(ours(row.cells[column]) for column in table.columns)])
        if any(cell.published is not None for cell in row.cells.values()):
            lines.append(["  paper", *(papers(row.cells[column]) for column in table.columns)])
    return lines


def label(row: Row) -> str:
    return f"{row.label} ({len(row.runs)} seeds)" if len(row.runs) > 1 else row.label


def ours(cell: Cell) -> str:
    """62.65 ±0.43*; empty where there is no run."""
    if cell.value is None:
        return ""
    error = "" if cell.error is None else f" ±{cell.error:.2f}"
    return f"{cell.value:.2f}{error}{'*' if cell.versus and cell.versus.beyond_chance else ''}"


def papers(cell: Cell) -> str:
    """62.88† (-0.23): the printed number, and how far ours is from the right one; empty where nothing is printed."""
    if cell.published is None:
        return ""
    beside = "" if cell.difference is None else f" ({signed(cell.difference)})"
    return f"{cell.published:.2f}{'†' if cell.erratum else ''}{beside}"


def signed(value: float) -> str:
    """With its sign, and none for what rounds to zero."""
    return f"{value:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00").replace("-", "−")
