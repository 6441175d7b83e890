"""The time of a training whose process was suspended for a while."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.report_runs import ALL, PAPER, SPARSE, write_run

from vrx.report.collect import Run, find_runs
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.number_of_layers import figure3
from vrx.report.training_time import NOTE


def a_run(root: Path, seconds: list[float], layers: tuple[int, ...] = SPARSE, *, logged: int = 10) -> None:
    total = sum(seconds)
    cost = {"steps": len(seconds), "seconds": total, "gpu_hours": total / 3600, "mfu": 1 / total, "flops": 7.0}
    folder = write_run(root, layers, train=cost).folder
    rows = [json.dumps({"step": step, "seconds": value}) for step, value in enumerate(seconds[:logged])]
    (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")


def only(root: Path) -> Run:
    (run,) = find_runs(root)
    return run


def test_a_pause_is_no_cost(tmp_path: Path):
    a_run(tmp_path, [2.0] * 8 + [4000.0, 100.0])
    train = only(tmp_path).train
    assert (train.seconds, train.gpu_hours, train.flops) == (20.0, pytest.approx(20 / 3600), 7.0)
    assert train.mfu == pytest.approx(1 / 20)


@pytest.mark.parametrize(
    ("seconds", "logged"),
    [([2.0] * 9 + [20.0], 10), ([2.0] * 8 + [4000.0, 100.0], 9), ([2.0] * 8 + [4000.0, 100.0], 0)],
    ids=["some slow steps", "a step is not in the log", "no log"],
)
def test_else_the_time_is_that_of_the_record(tmp_path: Path, seconds: list[float], logged: int):
    a_run(tmp_path, seconds, logged=logged)
    run = only(tmp_path)
    assert run.train == run.record.train and not run.had_pauses


def test_figure_3_says_that_it_leaves_a_pause_out(tmp_path: Path):
    a_run(tmp_path, [2.0] * 9 + [4000.0])
    a_run(tmp_path, [3.0] * 10, ALL)
    (plot,) = figure3(FigureInputs(find_runs(tmp_path), PAPER))
    assert [round(3600 * y) for _, y, _ in plot.panels[0].lines[0].points] == [20, 30]
    assert NOTE in plot.as_text()
