"""The paper's numbers agree with their own cells except for the errata, and its rows are runs that compose."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support.composing import composed

from vrx.config.paths import CONF
from vrx.report.paper import Artifact, PaperRow, load_paper
from vrx.runs.layer_selection import select_layers

PAPER = load_paper()
HALF_A_DIGIT = Fraction(1, 200)  # of two decimals


def exact(number: float) -> Fraction:
    return Fraction(Decimal(str(number)))


def mean(row: PaperRow) -> Fraction:
    return sum((exact(value) for value in row.values if value is not None), Fraction()) / len(row.values)


ROWS = [
    pytest.param(artifact, row, id=f"{artifact.name}, {row.label}, {row.model}")
    for artifact in PAPER.artifacts.values()
    for row in artifact.rows
]


def check_total(artifact: Artifact, row: PaperRow, column: str, printed: float, right: Fraction) -> None:
    """The printed number is the right one rounded, or an erratum has both."""
    erratum = artifact.erratum(row, column)
    if erratum is None:
        assert abs(exact(printed) - right) <= HALF_A_DIGIT
    else:
        assert erratum.printed == printed
        assert erratum.recomputed is not None
        assert abs(exact(erratum.recomputed) - right) <= HALF_A_DIGIT
        assert abs(exact(printed) - right) > HALF_A_DIGIT


@pytest.mark.parametrize(("artifact", "row"), ROWS)
def test_printed_averages_agree_with_their_cells_or_are_errata(artifact: Artifact, row: PaperRow):
    if row.average is not None:
        check_total(artifact, row, "average", row.average, mean(row))


@pytest.mark.parametrize(("artifact", "row"), ROWS)
def test_printed_shares_agree_with_their_cells_or_are_errata(artifact: Artifact, row: PaperRow):
    if row.share is not None:
        all_layers = artifact.all_layers(row)
        assert all_layers is not None
        check_total(artifact, row, "share", row.share, 100 * mean(row) / mean(all_layers))


def test_every_erratum_is_about_a_printed_number():
    for artifact in PAPER.artifacts.values():
        for erratum in artifact.errata:
            (row,) = [row for row in artifact.rows if row.label == erratum.row]
            totals = {"average": row.average, "share": row.share}
            cells = dict(zip(artifact.columns, row.values, strict=True)) | totals
            assert cells[erratum.column] == erratum.printed
            assert erratum.recomputed is not None or erratum.note


def test_the_misprint_of_table_1_is_listed():
    table = PAPER.artifacts["table1"]
    (top,) = [row for row in table.rows if row.label == "Consecutive Top"]
    erratum = table.erratum(top, "average")
    assert erratum is not None
    assert (erratum.printed, erratum.recomputed) == (58.08, 59.33)
    assert min(table.rows, key=mean) == top  # so the paper's conclusion holds


@pytest.mark.parametrize(("artifact", "row"), ROWS)
def test_rows_compose_to_runs_with_the_printed_layers(artifact: Artifact, row: PaperRow):
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


def test_models_and_columns_are_configuration_options():
    for model in PAPER.models.values():
        assert composed([f"model={model.name}", "benchmark=visual"]).model.num_layers == model.num_layers
    benchmarks = {path.stem for path in (CONF / "benchmark").glob("*.yaml")}
    for name in ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "table4", "figure2"):
        assert set(PAPER.artifacts[name].columns) <= benchmarks & set(PAPER.columns)


def test_tables_agree_on_the_cells_they_share():
    cells: dict[Any, float] = {}
    for artifact in (PAPER.artifacts[name] for name in ("table1", "table2", "figure2")):
        for row in artifact.rows:
            for column, value in zip(artifact.columns, row.values, strict=True):
                if value is not None:
                    assert cells.setdefault((row.selector, row.num_layers, row.fraction, column), value) == value


def test_tables_1_to_3_and_figure_2_have_50_rows_and_41_distinct_runs():
    names = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "figure2")
    rows = [row for name in names for row in PAPER.artifacts[name].rows]
    assert len(rows) == 50
    assert len({(row.model, row.layers, row.num_layers, row.fraction) for row in rows}) == 41


def test_numbers_are_percent_with_two_decimals():
    for artifact in PAPER.artifacts.values():
        for row in artifact.rows:
            for value in (*row.values, row.average, row.share):
                assert value is None or value == round(value, 2)
                assert value is None or artifact.unit == "perplexity" or 0 < value < 100
