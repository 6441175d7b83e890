"""The table of baselines: the untouched LVLM and other towers beside the tuned one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from support.report_runs import ALL, PAPER, SPARSE, TOP, VISUAL, write_run

from vrx.report.baselines import baselines
from vrx.report.collect import Run
from vrx.report.question_scores import question_scores


def with_parts(run: Run, **parts: str) -> Run:
    model = dataclasses.replace(run.record.model, parts={"backbone": "b", **parts})
    return dataclasses.replace(run, record=dataclasses.replace(run.record, model=model))


def test_untouched_and_other_towers_have_rows_of_their_own(tmp_path: Path):
    def make(number: int, layers: tuple[int, ...], skill: float, **parts: str) -> Run:
        return with_parts(write_run(tmp_path / str(number), layers, skill=skill), **parts)

    trained = {"vision_tower": "parts/tower", "projector": "p"}
    random_tower = {"vision_tower": "parts/tower_random", "projector": "q"}
    runs = [
        make(0, (), 0.1, vision_tower="parts/tower"),
        make(1, (), 0.2, **trained),
        make(2, ALL, 0.9, **trained),
        make(3, SPARSE, 0.8, **trained),
        make(4, TOP, 0.5, **trained),  # in no row of this table
        make(5, SPARSE, 0.3, **random_tower),
    ]
    (table,) = baselines(PAPER, runs, question_scores(runs))
    assert [(row.label, row.runs) for row in table.rows[:-1]] == [
        ("Untouched, untrained projector", (runs[0],)),
        ("Untouched", (runs[1],)),
        ("All layers", (runs[2],)),
        ("Sparse & Uniform", (runs[3],)),
        ("Sparse & Uniform, tower_random", (runs[5],)),
    ]
    for row in table.rows[:-1]:
        (run,) = row.runs
        expected = sum(run.percent(column) for column in VISUAL) / len(VISUAL)
        assert row.cells["average"].value is not None
        assert abs(row.cells["average"].value - expected) < 1e-9
    assert table.rows[3].cells["share"].value is not None
    assert table.rows[4].cells["share"].value is None  # no run of that tower has all layers


def test_the_tower_of_the_untouched_model_comes_first(tmp_path: Path):
    of_tower, of_random = {"vision_tower": "tower", "projector": "p"}, {"vision_tower": "random", "projector": "q"}
    runs = [
        with_parts(write_run(tmp_path / "0", SPARSE, skill=0.3), **of_random),
        with_parts(write_run(tmp_path / "1", SPARSE, skill=0.8), **of_tower),
        with_parts(write_run(tmp_path / "2", (), skill=0.2), **of_tower),
    ]
    (table,) = baselines(PAPER, runs, question_scores(runs))
    labels = [row.label for row in table.rows[:-1]]
    assert labels == ["Untouched", "Sparse & Uniform", "Sparse & Uniform, random"]


def test_no_table_without_an_untouched_or_without_a_tuned_model(tmp_path: Path):
    untouched, tuned = write_run(tmp_path, ()), write_run(tmp_path, SPARSE)
    for runs in ([untouched], [tuned]):
        assert baselines(PAPER, runs, question_scores(runs)) == []
    assert len(baselines(PAPER, [untouched, tuned], question_scores([untouched, tuned]))) == 1
