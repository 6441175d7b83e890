"""Tables: which runs a row is made from."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

from support.report_runs import ALL, BUNNY, PAPER, SPARSE, TOP, VISUAL, row_of, tables_of, write_run

from vrx.report.collect import find_runs
from vrx.report.formats import render_csv, render_markdown
from vrx.report.paper_artifacts import all_tables
from vrx.report.paper_layers import row_layers
from vrx.report.question_scores import question_scores
from vrx.report.tables import build_tables
from vrx.selectors.rules import sparse_uniform


def test_a_row_is_matched_by_its_layers_whatever_their_selector_is_called(tmp_path: Path):
    write_run(tmp_path, ALL)
    sparse = write_run(tmp_path, tuple(reversed(SPARSE)))
    write_run(tmp_path, (1, 5, 9, 13, 19, 23, 27, 31))  # the released code's list is no row of the paper
    (table,) = tables_of(tmp_path, "table1")
    assert [run.folder for run in row_of(table, "Sparse & Uniform").runs] == [sparse.folder]
    assert sum(len(row.runs) for row in table.rows) == 2


def test_selectors_that_the_paper_does_not_print_have_rows_of_their_own(tmp_path: Path):
    write_run(tmp_path, ALL)
    write_run(tmp_path, SPARSE, selectors=["sparse_uniform", "block_influence"])
    for seed, layers in enumerate([(0, 1, 2, 3, 9, 10, 11, 12), (0, 1, 2, 3, 9, 10, 11, 13)]):
        write_run(tmp_path, layers, seed=seed, selectors=["random"])
    write_run(tmp_path, (5, 6), selectors=["parameter_change"])  # not as many layers as the table's rows
    (table,) = tables_of(tmp_path, "table1")
    ours = [row for row in table.rows if row.label.startswith("Ours: ")]
    assert [row.label for row in ours] == ["Ours: block influence", "Ours: random"]
    assert [row.layers for row in ours] == [SPARSE, None]
    assert [len(row.runs) for row in ours] == [1, 2]
    assert ours[1].cells["average"].num_seeds == 2
    assert ours[0].cells["gqa"].published is None
    assert len(row_of(table, "Sparse & Uniform").runs) == 1
    assert "Ours: random (2 runs)" in render_markdown(table)


def test_scores_with_shuffled_images_have_rows_of_their_own(tmp_path: Path):
    write_run(tmp_path, ALL)
    sparse = write_run(tmp_path, SPARSE, skill=0.9)
    scores = sparse.record.scores
    for column in VISUAL[:2]:
        scores[f"{column}_shuffled_images"] = dataclasses.replace(scores[column], value=0.125)
    sparse.record.write(sparse.folder / "record.json")
    (table,) = tables_of(tmp_path, "table2")
    labels = [row.label for row in table.rows]
    assert labels[2:4] == ["8 layers", "8 layers, shuffled images"]
    assert sum("shuffled" in label for label in labels) == 1
    real, control = (row_of(table, label).cells for label in labels[2:4])
    assert control["ocrvqa"].value == 12.5 != real["ocrvqa"].value
    assert (control["textvqa"].value, control["average"].value) == (None, None)
    assert control["ocrvqa"].published is None
    assert any("control" in note for note in table.notes)


def test_text_only_benchmarks_have_no_rows_with_shuffled_images(tmp_path: Path):
    write_run(tmp_path, ALL)
    sparse = write_run(tmp_path, SPARSE)
    scores = sparse.record.scores
    scores["mmlu"] = scores["gqa"]
    scores["mmlu_shuffled_images"] = scores["gqa"]
    sparse.record.write(sparse.folder / "record.json")
    (table,) = tables_of(tmp_path, "table4")
    assert row_of(table, "Partially trained (8 layers)").cells["mmlu"].value is not None
    assert not any("shuffled" in row.label for row in table.rows)


def test_the_last_row_has_the_chance_levels_as_recorded_or_from_the_answers(tmp_path: Path):
    run = write_run(tmp_path, ALL)
    write_run(tmp_path, SPARSE)
    (table,) = tables_of(tmp_path, "table2")
    row = table.rows[-1]
    assert (row.label, row.runs, row.cells["share"].value) == ("Chance", (), None)
    assert row.cells["gqa"].value == 100, "all questions of this benchmark have the same answer"
    assert row.cells["mmbench"].value == 25, "two options in two rotations"
    assert row.cells["average"].value == (7 * 100 + 25) / 8
    for folder in tmp_path.glob("*/*/*/answers"):
        shutil.rmtree(folder)
    (tmp_path / "finetune").rename(tmp_path / "moved")  # what was read of a folder is read once
    assert tables_of(tmp_path, "table2")[0].rows[-1].label != "Chance"
    run.record.scores["gqa"].chance = 0.5
    run.record.write(tmp_path / "moved" / BUNNY / run.folder.name / "record.json")
    row = tables_of(tmp_path, "table2")[0].rows[-1]
    assert (row.cells["gqa"].value, row.cells["tdiuc"].value, row.cells["average"].value) == (50, None, None)
    assert "Chance" in render_csv(tables_of(tmp_path, "table2")[0])


def test_other_amounts_of_data_fill_other_rows(tmp_path: Path):
    write_run(tmp_path, ALL)
    write_run(tmp_path, SPARSE, fraction=0.25)
    assert tables_of(tmp_path, "table2") == []
    (table,) = tables_of(tmp_path, "figure2")
    filled = [row.label for row in table.rows if row.runs]
    assert filled == ["100 % of the data, 32 layers", "25 % of the data, 8 layers"]


def test_each_setting_has_a_table_of_its_own(tmp_path: Path):
    write_run(tmp_path, ALL)
    write_run(tmp_path, SPARSE)
    write_run(tmp_path, (31,))
    for layers in (SPARSE, (31,)):
        write_run(tmp_path, layers, lr=1e-3)
    write_run(tmp_path, SPARSE, lr=1e-4)  # a single row makes no table; the list of runs has it
    largest, other = tables_of(tmp_path, "table2")
    assert (largest.name, other.name) == (f"table2_{BUNNY}", f"table2_{BUNNY}_2")
    assert row_of(largest, "8 layers").cells["share"].value is not None
    assert row_of(other, "8 layers").cells["share"].value is None  # no run with all layers
    assert largest.title.endswith("(train.lr=0.0002)")
    assert other.title.endswith("(train.lr=0.001)")


def test_a_table_does_not_depend_on_the_order_of_the_runs(tmp_path: Path):
    runs = [write_run(tmp_path, layers, seed=seed) for layers in (ALL, SPARSE, TOP) for seed in (0, 1)]
    texts = set()
    for seed in range(4):
        random.Random(seed).shuffle(runs)
        tables = build_tables(PAPER.artifacts["table1"], PAPER, runs, question_scores(runs))
        texts |= {render_markdown(table) for table in tables}
    assert len(texts) == 1


def test_rows_have_layers_in_models_of_another_depth():
    (eight,) = [row for row in PAPER.artifacts["table1"].rows if row.label == "Sparse & Uniform"]
    assert row_layers(eight, 32, PAPER) == SPARSE
    assert row_layers(eight, 40, PAPER) == sparse_uniform(40, 8)
    assert row_layers(eight, 6, PAPER) is None
    for row in PAPER.artifacts["table1"].rows:
        layers = row_layers(row, 40, PAPER)
        assert row.selector is not None
        assert layers is None if row.selector.endswith("_paper") else layers == tuple(sorted(set(layers or ())))


def test_in_a_model_of_another_depth_its_own_scores_stand_for_the_papers_lists(tmp_path: Path):
    write_run(tmp_path, tuple(range(30)), depth=30)
    by_score = [
        write_run(tmp_path, layers, seed=seed, depth=30, selectors=["block_influence"])
        for seed, layers in enumerate([(0, 1, 2, 3, 9, 10, 11, 12), (0, 1, 2, 3, 9, 10, 11, 13)])
    ]
    write_run(tmp_path, (4, 5, 6), depth=30, selectors=["block_influence"])  # not as many layers as the row
    write_run(tmp_path, tuple(range(4, 12)), depth=30, selectors=["block_influence_reversed"])
    (table,) = tables_of(tmp_path, "table1")
    labels = [row.label for row in table.rows]
    assert "Block Influence Score" not in labels and labels.count("Ours: block influence") == 1
    row = row_of(table, "Ours: block influence")
    assert {run.folder for run in row.runs} == {run.folder for run in by_score} and row.layers is None
    assert row.cells["average"].num_seeds == 2
    assert not row_of(table, "Ours: angular distance").is_filled
    assert len(row_of(table, "Ours: block influence reversed").runs) == 1


def test_a_model_that_is_not_the_papers_gets_shares_and_no_scores(tmp_path: Path):
    columns = tuple(f"tiny_{column}" for column in VISUAL)
    write_run(tmp_path, ALL, model="tiny", columns=columns)
    write_run(tmp_path, SPARSE, model="tiny", columns=columns)
    (table,) = tables_of(tmp_path, "table2")
    cells = row_of(table, "8 layers").cells
    assert all(cells[column].value is not None and cells[column].published is None for column in VISUAL)
    assert cells["share"].published == 99.00
    assert cells["average"].published is None
    runs = find_runs(tmp_path)
    names = [table.name for table in all_tables(PAPER, runs, question_scores(runs))]
    assert names == ["table1_tiny", "table2_tiny", "figure2_tiny"]


def test_the_backbone_row_is_the_untouched_run(tmp_path: Path):
    write_run(tmp_path, (), columns=("mmlu",), skill=0.9)
    write_run(tmp_path, ALL, columns=("mmlu",))
    (table,) = tables_of(tmp_path, "table4")
    cells = row_of(table, "Backbone").cells
    assert cells["mmlu"].published == 66.01
    assert cells["mmlu"].versus is not None
    assert cells["bbh"].value is None
    assert "average" not in table.columns
