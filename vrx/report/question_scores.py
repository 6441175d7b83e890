"""Scores by question, computed again from the predictions of a run: what a paired comparison of runs needs."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.frozen import read_yaml
from vrx.config.migrations import migrate_benchmark
from vrx.config.schema import BenchmarkConfig
from vrx.config.validate import validate_benchmark
from vrx.evaluation.chance import chance_level
from vrx.evaluation.prediction_files import Predictions, load_predictions
from vrx.evaluation.scoring import scores_by_question
from vrx.launch.logging import log
from vrx.metrics import aggregate
from vrx.metrics.answer import Answer
from vrx.report.collect import Run
from vrx.runs.run_dir import RunDir
from vrx.runs.typed_json import from_json

# What a metric raises for an answer that it was not made for, as of a file that another metric was written for.
UNSCORABLE = (ValueError, TypeError, LookupError, ArithmeticError)
QuestionScores = Callable[[Run, str], Mapping[str, float] | None]  # (run, its benchmark) -> score by question


def question_scores(runs: Sequence[Run]) -> QuestionScores:
    """A function that gives the scores by question; None where the answers do not give what the record says."""
    by_folder = {run.folder: run for run in runs}

    @functools.cache
    def scored(folder: Path, name: str) -> Mapping[str, float] | None:
        run = by_folder[folder]
        loaded, entry = load_answers(run, name), run.record.scores[name]
        try:
            scores = scores_by_question(*loaded) if loaded else {}
        except UNSCORABLE:
            return None
        same = 0 < len(scores) == entry.num_samples and math.isclose(aggregate.mean(scores.values()), entry.value)
        return scores if same else None

    return lambda run, name: scored(run.folder, name)


def benchmark_config(run: Run, name: str) -> BenchmarkConfig | None:
    """The settings that a run's score of a benchmark was computed with; None where they are not known.

    They are in the header of the predictions; older versions have them in the run's own `config.yaml` only.
    """
    return _config_of(run.folder, name, _load_predictions(run.folder, name))


def load_answers(run: Run, name: str) -> tuple[BenchmarkConfig, list[Answer]] | None:
    """The answers of a run to a benchmark, and the settings it was asked with; None where either is missing."""
    return _answers_in(run.folder, name)


def chance(run: Run, name: str) -> float | None:
    """The chance level of a benchmark, a fraction: as recorded, of an older record from its answers; else None."""
    recorded = run.record.scores[name].chance
    return _chance_in(run.folder, name) if recorded is None else recorded


@functools.cache
def _chance_in(folder: Path, name: str) -> float | None:
    loaded = _answers_in(folder, name)
    try:
        return chance_level(*loaded) if loaded else None
    except UNSCORABLE:
        return None


def _answers_in(folder: Path, name: str) -> tuple[BenchmarkConfig, list[Answer]] | None:
    predictions = _load_predictions(folder, name)
    config = _config_of(folder, name, predictions)
    return (config, list(predictions.answers.values())) if config and predictions and predictions.answers else None


def _load_predictions(folder: Path, name: str) -> Predictions | None:
    try:
        return load_predictions(RunDir(folder).predictions(name))
    except (OSError, UserError):
        return None


def _config_of(folder: Path, name: str, predictions: Predictions | None) -> BenchmarkConfig | None:
    settings = predictions.header.benchmark if predictions else None
    settings = settings or _frozen_benchmarks(RunDir(folder).config).get(name)
    return _to_config(settings, RunDir(folder).predictions(name))


@functools.cache
def _frozen_benchmarks(path: Path) -> dict[str, Any]:
    """The benchmarks that a frozen configuration names, as plain values; none where it cannot be read."""
    try:
        benchmarks = read_yaml(path)["benchmark"]
    except (OSError, UserError, KeyError, TypeError):
        return {}
    return benchmarks if isinstance(benchmarks, dict) else {}


def _to_config(settings: Any, source: Path) -> BenchmarkConfig | None:
    """Settings of this version or an older one; None for none at all, and for those of another form or version."""
    if settings is None:
        return None
    try:
        migrated = migrate_benchmark(settings)
        if unknown := migrated.keys() - {field.name for field in dataclasses.fields(BenchmarkConfig)}:
            raise UserError(f"unknown settings {sorted(unknown)}")
        config = from_json(BenchmarkConfig, migrated)
        validate_benchmark("benchmark", config)
    except (UserError, TypeError, AttributeError) as error:
        log(f"left out of the report: answers {source}: settings of another form: {error}")
        return None
    return config
