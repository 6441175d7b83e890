"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

from vrx.report.grid import grid
from vrx.tables import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"$^{\dagger}$",
    "*": "$^{*}$",
}


def render(table: Table) -> str:
    """A `table*`, its notes below it; `\\usepackage{booktabs}` is all it takes."""
    header, *lines = [[escape(cell.strip()) for cell in line] for line in grid(table)]
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
        rf"\caption{{{escape(table.title)}. {escape(' '.join(table.notes))}}}",
        rf"\label{{tab:{table.name}}}",
        r"\end{table*}",
    ]
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text in which LaTeX sees no commands."""
    return "".join(SPECIAL.get(mark, mark) for mark in text)
