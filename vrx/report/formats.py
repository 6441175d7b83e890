"""Tables as Markdown, LaTeX and CSV.

Markdown and LaTeX print two lines a row, ours and below it the paper's; CSV has a line for each number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from vrx.report.cells import Cell
from vrx.report.tables import Table, TableRow

PAPER_LABEL = "  paper"
CSV_COLUMNS = [
    *("table", "model", "row", "layers", "data_fraction", "seeds", "column"),
    *("value", "error", "error_is", "num_samples", "share_of_all_layers", "published", "difference"),
    *("versus_all_layers", "low", "high", "p", "beyond_chance", "runs"),
]
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"$^{\dagger}$",
    "*": "$^{*}$",
}


def render_markdown(table: Table) -> str:
    """A heading, the table with aligned columns, and its notes as a list."""
    notes = [f"- {note}".replace("*", "\\*") for note in table.notes]
    return "\n".join([f"### {table.title}", "", *markdown_rows(table_lines(table)), "", *notes]) + "\n"


def markdown_rows(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with aligned columns, the first one being its header; all but the first column are right."""
    lines = [[re.sub(r"([|*<`])", r"\\\1", re.sub(r"\s", " ", cell)) for cell in line] for line in lines]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    rows = [
        f"| {line[0]:<{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        + " |"
        for line in lines
    ]
    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join("-" * (width + 1) + ":" for width in widths[1:]) + "|"
    return [rows[0], rule, *rows[1:]]


def render_latex(table: Table) -> str:
    """A `table*` with its notes in the caption; needs `\\usepackage{booktabs}`."""
    header, *lines = [[escape_latex(cell.strip()) for cell in line] for line in table_lines(table)]
    paper_label = PAPER_LABEL.strip()
    body = []
    for number, line in enumerate(lines):
        is_papers = line[0] == paper_label
        if number and not is_papers and lines[number - 1][0] == paper_label:
            body.append(r"\addlinespace")
        label = rf"\quad {paper_label}" if is_papers else line[0]
        body.append(" & ".join([label, *line[1:]]) + r" \\")
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


def render_csv(table: Table) -> str:
    """A line for each number, in percent; missing numbers are empty.

    `difference` is ours minus the paper's; `versus_all_layers`, with its 95 % interval over the questions, ours minus
    that of all layers; `p` is a fraction.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.rows:
        for column in table.columns:
            writer.writerow([_csv_value(value) for value in _csv_line(table, row, column)])
    return text.getvalue()


RENDERERS: dict[str, Callable[[Table], str]] = {"md": render_markdown, "tex": render_latex, "csv": render_csv}


def table_lines(table: Table) -> list[list[str]]:
    """The header, then for each row a line of ours and, where it prints any, one of the paper's numbers."""
    lines = [["", *table.columns.values()]]
    for row in table.rows:
        lines.append([row_label(row), *(our_number(row.cells[column]) for column in table.columns)])
        if any(cell.published is not None for cell in row.cells.values()):
            lines.append([PAPER_LABEL, *(paper_number(row.cells[column]) for column in table.columns)])
    return lines


def row_label(row: TableRow) -> str:
    """The row's label, with the number of its runs where there are several: seeds, or selections of layers too."""
    runs = "seeds" if row.layers is not None else "runs"
    return f"{row.label} ({len(row.runs)} {runs})" if len(row.runs) > 1 else row.label


def our_number(cell: Cell) -> str:
    """`62.65 ±0.43*`; empty without runs."""
    if cell.value is None:
        return ""
    error = "" if cell.error is None else f" ±{cell.error:.2f}"
    return f"{cell.value:.2f}{error}{'*' if cell.versus and cell.versus.beyond_chance else ''}"


def paper_number(cell: Cell) -> str:
    """`62.88† (−0.23)`: the printed number and our difference from the right one; empty where nothing is printed."""
    if cell.published is None:
        return ""
    difference = "" if cell.difference is None else f" ({signed(cell.difference)})"
    return f"{cell.published:.2f}{'†' if cell.erratum else ''}{difference}"


def signed(value: float) -> str:
    """Two decimals with a sign, without one for what rounds to zero."""
    return f"{value:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00").replace("-", "−")


def escape_latex(text: str) -> str:
    """Text without LaTeX commands."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)


def _csv_line(table: Table, row: TableRow, column: str) -> Sequence[object]:
    cell, versus = row.cells[column], row.cells[column].versus
    layers = "" if row.layers is None else " ".join(map(str, row.layers))
    seeds = " ".join(str(run.seed) for run in row.runs if run.seed is not None)
    error_is = "" if cell.error is None else "over seeds" if cell.num_seeds > 1 else "over questions"
    return [
        *(table.name, table.model, row.label, layers, f"{row.fraction:g}", seeds, column),
        *(cell.value, cell.error, error_is, cell.num_samples, cell.share, cell.published, cell.difference),
        *((versus.value, versus.low, versus.high, versus.p, versus.beyond_chance) if versus else [None] * 5),
        " ".join(run.record.run_id for run in row.runs),
    ]


def _csv_value(value: object) -> object:
    """A float to six places; an apostrophe before a text that a spreadsheet would take for a formula.

    Blanks before a formula do not hide it; tabs and line breaks become blanks, as not every reader takes them quoted.
    """
    if isinstance(value, float):
        return f"{value:.6f}"
    if not isinstance(value, str):
        return value
    text = re.sub(r"\s", " ", value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
