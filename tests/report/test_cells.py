"""Cells: our number, its uncertainty, and the paper's."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from support.report_runs import ALL, NUM_QUESTIONS, SPARSE, TOP, VISUAL, row_of, tables_of, write_run


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


def test_several_seeds_give_mean_and_standard_deviation(tmp_path: Path):
    runs = [write_run(tmp_path, SPARSE, seed=seed) for seed in range(3)]
    (table,) = tables_of(tmp_path, "table2")
    cell = row_of(table, "8 layers").cells["tdiuc"]
    values = [100 * run.record.scores["tdiuc"].value for run in runs]
    assert (cell.value, cell.error) == (pytest.approx(statistics.fmean(values)), statistics.stdev(values))
    assert cell.num_seeds == 3
    assert any("standard deviation" in note and "3 seeds" in note for note in table.notes)


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
