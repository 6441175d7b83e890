"""The notes below a table: what a reader must know to read its numbers and marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vrx.config.shuffled_images import LABEL
from vrx.report.paper import Erratum

if TYPE_CHECKING:
    from vrx.report.tables import TableRow

CHANCE_LABEL = "Chance"  # of the row of chance levels


def table_notes(rows: Sequence[TableRow], *, is_papers_model: bool) -> list[str]:
    """The notes that apply to these rows."""
    return [*_uncertainty_notes(rows), *_row_notes(rows), *_errata_notes(rows), *_model_notes(rows, is_papers_model)]


def _uncertainty_notes(rows: Sequence[TableRow]) -> Iterator[str]:
    cells = [cell for row in rows for cell in row.cells.values()]
    yield "All numbers are percentages; ± is the standard error, over the questions where a row has one run."
    if seeds := sorted({cell.num_seeds for cell in cells if cell.num_seeds > 1}):
        numbers = " or ".join(map(str, seeds))
        yield (
            f"Rows with {numbers} runs show the mean, and ± is its standard error: the runs' standard deviation over "
            "the root of their number."
        )
    if any(cell.versus for cell in cells):
        yield (
            "* differs from all layers: the 95 % interval of a paired bootstrap over questions excludes zero. "
            "Expect about 1 in 20 of these marks by chance; variation between training seeds is not included."
        )


def _row_notes(rows: Sequence[TableRow]) -> Iterator[str]:
    sizes = [{row.cells[name].num_samples for row in rows} - {None} for name in rows[0].cells]
    if any(len(numbers) > 1 for numbers in sizes):
        yield "Not all rows were evaluated on the same number of questions."
    if any(row.label.endswith(LABEL) for row in rows):
        yield "Shuffled images: a control, each question is asked with the picture of another question."
    if any(row.label == CHANCE_LABEL for row in rows):
        yield (
            "Chance: options drawn uniformly, for each rotation anew; elsewhere the answer to another question of the "
            "same type."
        )
    if any(row.layers is None and row.runs for row in rows):
        yield "Our rows are named by their selector where seeds chose different layers."


def _errata_notes(rows: Sequence[TableRow]) -> Iterator[str]:
    for row in rows:
        for cell in row.cells.values():
            if cell.erratum is not None:
                corrections = "; ".join(_corrections(cell.erratum))
                yield f"† {row.label}: the paper prints {cell.erratum.printed:.2f}; {corrections}."


def _corrections(erratum: Erratum) -> Iterator[str]:
    if erratum.recomputed is not None:
        yield f"the row's own cells give {erratum.recomputed:.2f}"
    if erratum.note:
        yield erratum.note


def _model_notes(rows: Sequence[TableRow], is_papers_model: bool) -> Iterator[str]:
    if not is_papers_model:
        note = "The paper's scores are omitted, because they are of another model and other questions"
        has_shares = any(row.cells["share"].published is not None for row in rows if "share" in row.cells)
        yield f"{note}; its shares of all layers are shown." if has_shares else f"{note}."
