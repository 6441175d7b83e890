"""Tables as CSV, one line a cell, every number in full: for programs and spreadsheets."""

from __future__ import annotations

import csv
import io

from vrx.tables import Table

COLUMNS = [
    *("table", "model", "row", "layers", "data_fraction", "seeds", "column"),
    *("value", "error", "error_is", "num_samples", "share_of_all_layers", "published", "difference"),
    *("versus_all_layers", "low", "high", "p", "beyond_chance", "runs"),
]


def render(table: Table) -> str:
    """In percent; empty is missing. `difference` is ours minus the paper's, `versus_all_layers` with its 95 % interval
    is over the questions, `p` a fraction."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in table.rows:
        layers = "" if row.layers is None else " ".join(map(str, row.layers))
        runs = " ".join(run.record["run_id"] for run in row.runs)
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
