"""Cells: our number, its uncertainty, and the paper's."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import pytest
from support.report_runs import ALL, NUM_QUESTIONS, SPARSE, TOP, VISUAL, row_of, tables_of, write_run

from vrx.report.bootstrap import Difference


def test_cells_are_the_records_in_percent_and_the_papers_numbers(tmp_path: Path):
    all_layers, sparse = write_run(tmp_path, ALL, skill=0.9), write_run(tmp_path, SPARSE, skill=0.5)
    (table,) = tables_of(tmp_path, "table2")
    cell, base = row_of(table, "8 layers").cells["gqa"], all_layers.record.scores["gqa"].value
    entry = sparse.record.scores["gqa"]
    assert cell.value == pytest.approx(100 * entry.value)
    assert cell.error == pytest.approx(100 * entry.stderr)
    assert cell.share == pytest.approx(100 * entry.value / base)
    assert (cell.published, cell.num_seeds, cell.num_samples) == (63.68, 1, NUM_QUESTIONS)
    assert cell.difference == pytest.approx(cell.value - 63.68)
    assert cell.versus is not None
    assert cell.versus.value == pytest.approx(100 * (entry.value - base))
    average = row_of(table, "8 layers").cells["average"]
    assert average.value == pytest.approx(statistics.fmean(row_of(table, "8 layers").cells[c].value for c in VISUAL))
    assert average.versus is not None
    assert average.versus.beyond_chance
    assert row_of(table, "32 layers").cells["share"].value == 100
    assert row_of(table, "32 layers").cells["average"].versus is None
    assert row_of(table, "16 layers").cells["gqa"].value is None


def test_several_seeds_give_the_mean_and_its_standard_error(tmp_path: Path):
    runs = [write_run(tmp_path, SPARSE, seed=seed) for seed in range(3)]
    for run, scores in zip(runs, [(0.6, 0.5), (0.7, 0.5), (0.8, 0.8)], strict=True):
        entries = run.record.scores
        entries["tdiuc"] = dataclasses.replace(entries["tdiuc"], value=scores[0])
        for name in set(VISUAL) - {"tdiuc"}:
            entries[name] = dataclasses.replace(entries[name], value=scores[1])
        run.record.write(run.folder / "record.json")
    (table,) = tables_of(tmp_path, "table2")
    cells = row_of(table, "8 layers").cells
    assert (cells["tdiuc"].value, cells["tdiuc"].num_seeds) == (pytest.approx(70), 3)
    assert cells["tdiuc"].error == pytest.approx(10 / 3**0.5), "deviation 10, of 60, 70 and 80"
    averages = (60 / 8 + 50 * 7 / 8, 70 / 8 + 50 * 7 / 8, 80)
    centre = sum(averages) / 3
    assert cells["average"].value == pytest.approx(centre)
    deviation = (sum((average - centre) ** 2 for average in averages) / 2) ** 0.5
    assert cells["average"].error == pytest.approx(deviation / 3**0.5), "of the runs' averages, not of the columns"
    assert any("standard error" in note and "3 runs" in note for note in table.notes)


def test_a_partly_evaluated_run_leaves_the_difference_from_all_layers(tmp_path: Path):
    def versus() -> Difference | None:
        (table,) = tables_of(tmp_path, "table2")
        return row_of(table, "8 layers").cells["average"].versus

    for seed in (0, 1):
        write_run(tmp_path, ALL, skill=0.9, seed=seed)
    write_run(tmp_path, SPARSE, skill=0.5)
    complete = versus()
    write_run(tmp_path, SPARSE, seed=1, columns=("gqa",))
    assert complete is not None
    assert versus() == complete


def test_one_run_has_the_sampling_error_of_its_questions(tmp_path: Path):
    run = write_run(tmp_path, SPARSE)
    for number, name in enumerate(VISUAL):
        run.record.scores[name] = dataclasses.replace(run.record.scores[name], stderr=0.04 if number else 0.12)
    run.record.write(run.folder / "record.json")
    cells = row_of(tables_of(tmp_path, "table2")[0], "8 layers").cells
    assert cells["docvqa"].error == pytest.approx(4)
    assert cells["average"].error == pytest.approx((12**2 + 7 * 4**2) ** 0.5 / 8)


def test_an_average_needs_every_column(tmp_path: Path):
    write_run(tmp_path, ALL)
    write_run(tmp_path, SPARSE, columns=VISUAL[:3])
    (table,) = tables_of(tmp_path, "table2")
    cells = row_of(table, "8 layers").cells
    assert cells["ocrvqa"].value is not None
    assert (cells["textvqa"].value, cells["average"].value, cells["share"].value) == (None, None, None)


def test_a_misprint_is_marked_and_the_right_number_compared(tmp_path: Path):
    write_run(tmp_path, TOP)
    (table,) = tables_of(tmp_path, "table1")
    cell = row_of(table, "Consecutive Top").cells["average"]
    assert cell.published == 58.08
    assert cell.difference == pytest.approx(cell.value - 59.33)
    assert any("Consecutive Top" in note and "59.33" in note for note in table.notes)
