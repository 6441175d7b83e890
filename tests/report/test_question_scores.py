"""Scores by question, computed again from predictions."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.report_runs import ALL, EMPTY_RECORD, NUM_QUESTIONS, SPARSE, row_of, tables_of, write_run

from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig
from vrx.evaluation.prediction_files import load_predictions, predictions_file, write_predictions
from vrx.report.collect import Run
from vrx.report.question_scores import benchmark_config, question_scores
from vrx.runs.files import write_atomic


@pytest.mark.parametrize("chosen", ["all", "tiny", "[]"])  # prompts of several lines among them
def test_benchmarks_are_read_from_the_frozen_configuration(
    make_run: Callable[..., RunConfig], tmp_path: Path, chosen: str
):
    run = make_run(f"benchmark={chosen}")
    write_atomic(tmp_path / "config.yaml", freeze(run))
    for name, config in run.benchmark.items():
        assert benchmark_config(Run(tmp_path, EMPTY_RECORD), name) == config


def test_a_run_without_a_configuration_has_no_benchmarks(tmp_path: Path):
    assert benchmark_config(Run(tmp_path / "missing", EMPTY_RECORD), "tiny_gqa") is None


def test_settings_beside_the_predictions_win_over_the_frozen_ones(tmp_path: Path):
    run = write_run(tmp_path, SPARSE, columns=("gqa",))
    frozen = benchmark_config(run, "gqa")
    assert frozen is not None
    changed = dataclasses.replace(frozen, prompt="{question} Be brief.")
    path = predictions_file(run.folder, "gqa")
    predictions = load_predictions(path)
    assert predictions is not None
    header = dataclasses.replace(predictions.header, benchmark=dataclasses.asdict(changed))
    write_predictions(path, header, predictions.answers.values())
    assert benchmark_config(run, "gqa") == changed


def test_settings_of_other_runs_are_never_used(tmp_path: Path):
    other, run = write_run(tmp_path, ALL), write_run(tmp_path, SPARSE)
    (run.folder / "config.yaml").write_text("benchmark: {}\n")
    scores = question_scores([other, run])
    assert scores(other, "gqa") is not None
    assert scores(run, "gqa") is None


def test_answers_that_do_not_give_the_recorded_score_are_not_compared(tmp_path: Path):
    write_run(tmp_path, ALL)
    sparse = write_run(tmp_path, SPARSE)
    assert row_of(tables_of(tmp_path, "table2")[0], "8 layers").cells["gqa"].versus is not None
    path = predictions_file(sparse.folder, "gqa")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line.replace('"text": "B"', '"text": "A"') for line in lines[1:])]) + "\n")
    cells = row_of(tables_of(tmp_path, "table2")[0], "8 layers").cells
    assert cells["gqa"].versus is None
    assert cells["average"].versus is None
    assert cells["tdiuc"].versus is not None


@pytest.mark.parametrize("damaged", ["config.yaml", "answers"])
def test_without_answers_or_configuration_the_recorded_scores_are_shown(tmp_path: Path, damaged: str):
    for layers in (ALL, SPARSE):
        path = write_run(tmp_path, layers).folder / damaged
        shutil.rmtree(path) if path.is_dir() else path.write_text("benchmark: [")
    cell = row_of(tables_of(tmp_path, "table2")[0], "8 layers").cells["gqa"]
    assert cell.value is not None
    assert cell.versus is None


def test_a_question_asked_in_rotations_is_scored_once(tmp_path: Path):
    run = write_run(tmp_path, SPARSE)
    scores = question_scores([run])(run, "mmbench")
    assert scores is not None
    assert len(scores) == NUM_QUESTIONS / 2 == run.record.scores["mmbench"].num_samples
