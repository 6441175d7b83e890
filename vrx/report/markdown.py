"""Tables in Markdown, aligned, so that they read in a terminal too."""

from __future__ import annotations

from vrx.report.grid import grid
from vrx.tables import Table


def render(table: Table) -> str:
    lines = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in grid(table)]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(lines[0]))]
    rows = [f"| {cells[0]:<{widths[0]}} | " + _right(cells[1:], widths[1:]) for cells in lines]
    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    notes = [f"- {note}".replace("*", "\\*") for note in table.notes]
    return "\n".join([f"### {table.title}", "", rows[0], rule, *rows[1:], "", *notes]) + "\n"


def _right(cells: list[str], widths: list[int]) -> str:
    return " | ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"
