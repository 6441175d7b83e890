"""The paper's numbers fit their own cells but where an erratum says so, and its rows are runs that compose."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support.composing import composed

from vrx.config.paths import CONF
from vrx.report.paper import Artefact, PaperRow, load_paper
from vrx.runs.layer_selection import select_layers

PAPER = load_paper()
HALF_A_DIGIT = Fraction(1, 200)  # of two decimals


def exact(number: float) -> Fraction:
    return Fraction(Decimal(str(number)))


def mean(row: PaperRow) -> Fraction:
    return sum((exact(value) for value in row.values if value is not None), Fraction()) / len(row.values)


ROWS = [
    pytest.param(artefact, row, id=f"{artefact.name}, {row.label}, {row.model}")
    for artefact in PAPER.artefacts.values()
    for row in artefact.rows
]


def fits(artefact: Artefact, row: PaperRow, column: str, printed: float, right: Fraction) -> None:
    """The printed number is the right one rounded, or an erratum tells both."""
    erratum = artefact.erratum(row, column)
    if erratum is None:
        assert abs(exact(printed) - right) <= HALF_A_DIGIT
    else:
        assert erratum.printed == printed
        assert erratum.recomputed is not None
        assert abs(exact(erratum.recomputed) - right) <= HALF_A_DIGIT
        assert abs(exact(printed) - right) > HALF_A_DIGIT


@pytest.mark.parametrize(("artefact", "row"), ROWS)
def test_a_printed_average_is_that_of_its_cells_or_an_erratum(artefact: Artefact, row: PaperRow):
    if row.average is not None:
        fits(artefact, row, "average", row.average, mean(row))


@pytest.mark.parametrize(("artefact", "row"), ROWS)
def test_a_printed_share_is_that_of_all_layers_or_an_erratum(artefact: Artefact, row: PaperRow):
    if row.share is not None:
        whole = artefact.all_layers(row)
        assert whole is not None
        fits(artefact, row, "share", row.share, 100 * mean(row) / mean(whole))


def test_every_erratum_is_of_a_number_that_is_printed():
    for artefact in PAPER.artefacts.values():
        for erratum in artefact.errata:
            (row,) = [row for row in artefact.rows if row.label == erratum.row]
            others = {"average": row.average, "share": row.share}
            cells = dict(zip(artefact.columns, row.values, strict=True)) | others
            assert cells[erratum.column] == erratum.printed
            assert erratum.recomputed is not None or erratum.note


def test_the_misprint_of_table_1_is_told():
    table = PAPER.artefacts["table1"]
    (top,) = [row for row in table.rows if row.label == "Consecutive Top"]
    erratum = table.erratum(top, "average")
    assert erratum is not None
    assert (erratum.printed, erratum.recomputed) == (58.08, 59.33)
    assert min(table.rows, key=mean) == top  # what the paper says of it holds all the same


@pytest.mark.parametrize(("artefact", "row"), ROWS)
def test_a_row_is_a_run_that_composes_to_the_printed_layers(artefact: Artefact, row: PaperRow):
    if row.selector is None:
        assert row.num_layers == 0
        return
    count = [] if row.selector == "all" else [f"layer_count.k={row.num_layers}"]
    run = composed(
        [
            f"model={row.model}",
            "benchmark=visual",
            f"selector={row.selector}",
            f"data_fraction.fraction={row.fraction}",
            *count,
        ]
    )
    assert len(select_layers(run)) == row.num_layers
    assert row.layers is None or select_layers(run) == row.layers
    assert (row.layers is None) == (row.selector == "all" or row.model == "llava-1.5-13b")


def test_models_and_columns_are_options():
    for model in PAPER.models.values():
        assert composed([f"model={model.name}", "benchmark=visual"]).model.num_layers == model.num_layers
    benchmarks = {path.stem for path in (CONF / "benchmark").glob("*.yaml")}
    for name in ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "table4", "figure2"):
        assert set(PAPER.artefacts[name].columns) <= benchmarks & set(PAPER.columns)


def test_what_two_artefacts_share_is_printed_alike():
    one, two, figure = (PAPER.artefacts[name] for name in ("table1", "table2", "figure2"))
    cells: dict[Any, float] = {}
    for artefact in (one, two, figure):
        for row in artefact.rows:
            for column, value in zip(artefact.columns, row.values, strict=True):
                if value is not None:
                    assert cells.setdefault((row.selector, row.num_layers, row.fraction, column), value) == value


def test_tables_1_to_3_and_figure_2_name_50_runs_of_which_41_are_distinct():
    names = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "figure2")
    named = [row for name in names for row in PAPER.artefacts[name].rows]
    assert len(named) == 50
    assert len({(row.model, row.layers, row.num_layers, row.fraction) for row in named}) == 41


def test_numbers_are_percent_with_two_decimals():
    for artefact in PAPER.artefacts.values():
        for row in artefact.rows:
            for value in (*row.values, row.average, row.share):
                assert value is None or value == round(value, 2)
                assert value is None or artefact.unit == "perplexity" or 0 < value < 100
