"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io

from vrx.report.cells import Cell
from vrx.report.tables import Row, Table

CSV_COLUMNS = [
    *("table", "model", "row", "layers", "data_fraction", "seeds", "column"),
    *("value", "error", "error_is", "num_samples", "share_of_all_layers", "published", "difference"),
    *("versus_all_layers", "low", "high", "p", "beyond_chance", "runs"),
]


def render_csv(table: Table) -> str:
    """In percent; empty is missing. `difference` is ours minus the paper's, `versus_all_layers` with its 95 % interval
    is over the questions, `p` a fraction."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(CSV_COLUMNS)
    for row in table.rows:
        layers = "" if row.layers is None else " ".join(map(str, row.layers))
        runs = " ".join(run.record.run_id for run in row.runs)
        seeds = " ".join(str(run.seed) for run in row.runs if run.seed is not None)
        for name in table.columns:
            cell = row.cells[name]
            error_is = "" if cell.error is None else "over seeds" if cell.num_seeds > 1 else "over questions"
            numbers = [cell.value, cell.error, error_is, cell.num_samples, cell.share, cell.published, cell.difference]
            versus = cell.versus
            judged = [versus.value, versus.low, versus.high, versus.p] if versus else [None] * 4
            start = [table.name, table.model, row.label, layers, f"{row.fraction:g}", seeds, name]
            marked = [versus.beyond_chance] if versus else [None]
            lines.writerow([_plain(value) for value in [*start, *numbers, *judged, *marked, runs]])
    return text.getvalue()


def _plain(value: object) -> object:
    """A float to six places; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


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


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"$^{\dagger}$",
    "*": "$^{*}$",
}


def render_latex(table: Table) -> str:
    """A `table*`, its notes below it; `\\usepackage{booktabs}` is all it takes."""
    header, *lines = [[escape_latex(cell.strip()) for cell in line] for line in grid(table)]
    body = []
    for number, line in enumerate(lines):
        of_the_paper = line[0] == "paper"
        if number and not of_the_paper and lines[number - 1][0] == "paper":
            body.append(r"\addlinespace")
        body.append(" & ".join([r"\quad paper" if of_the_paper else line[0], *line[1:]]) + r" \\")
    parts = [
        r"\begin{table*}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{escape_latex(table.title)}. {escape_latex(' '.join(table.notes))}}}",
        rf"\label{{tab:{table.name}}}",
        r"\end{table*}",
    ]
    return "\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text in which LaTeX sees no commands."""
    return "".join(LATEX_SPECIAL.get(mark, mark) for mark in text)


def render_markdown(table: Table) -> str:
    lines = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in grid(table)]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(lines[0]))]
    rows = [f"| {cells[0]:<{widths[0]}} | " + _right(cells[1:], widths[1:]) for cells in lines]
    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    notes = [f"- {note}".replace("*", "\\*") for note in table.notes]
    return "\n".join([f"### {table.title}", "", rows[0], rule, *rows[1:], "", *notes]) + "\n"


def _right(cells: list[str], widths: list[int]) -> str:
    return " | ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"
