"""Scores by question, computed again from the predictions of a run: what a paired comparison of runs needs."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.prediction_files import Predictions, load_predictions
from vrx.evaluation.scoring import scores_by_question
from vrx.metrics import aggregate
from vrx.metrics.answer import Answer
from vrx.report.collect import Run
from vrx.runs.run_dir import RunDir

QuestionScores = Callable[[Run, str], Mapping[str, float] | None]  # (run, its benchmark) -> score by question


def benchmark_configs(run: Run) -> dict[str, BenchmarkConfig]:
    """The benchmarks of the run's last command, from its frozen configuration; none where that cannot be read."""
    try:
        text = RunDir(run.folder).config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    part = re.search(r"^benchmark:.*(?:\n(?: .*)?)*", text, re.MULTILINE)
    return _benchmarks_in(part.group()) if part else {}


@functools.cache  # parsing a whole configuration for each of thousands of runs takes longer than all else
def _benchmarks_in(text: str) -> dict[str, BenchmarkConfig]:
    try:
        parts = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["benchmark"]
        configs = {name: _to_config(settings) for name, settings in parts.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}
    return {name: config for name, config in configs.items() if config is not None}


def _to_config(settings: Mapping[str, Any]) -> BenchmarkConfig | None:
    """The settings of a benchmark as they were written; None where this version does not have one of them."""
    fields = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    return BenchmarkConfig(**settings) if set(settings) <= fields else None


def benchmark_config(run: Run, name: str) -> BenchmarkConfig | None:
    """The settings that a run was asked a benchmark with: those beside its predictions, else its frozen ones.

    None where neither can be read; predictions of earlier versions have no settings.
    """
    return _config_of(run, name, _load_predictions(run, name))


def load_answers(run: Run, name: str) -> tuple[BenchmarkConfig, list[Answer]] | None:
    """The answers of a run to a benchmark, and the settings it was asked with; None where either is missing."""
    predictions = _load_predictions(run, name)
    config = _config_of(run, name, predictions)
    return (config, list(predictions.answers.values())) if config and predictions and predictions.answers else None


def _load_predictions(run: Run, name: str) -> Predictions | None:
    try:
        return load_predictions(RunDir(run.folder).predictions(name))
    except (OSError, UserError):
        return None


def _config_of(run: Run, name: str, predictions: Predictions | None) -> BenchmarkConfig | None:
    settings = predictions.header.benchmark if predictions else None
    return _to_config(settings) if settings is not None else benchmark_configs(run).get(name)


def question_scores(runs: Sequence[Run]) -> QuestionScores:
    """A function that gives the scores by question; None where the answers do not give what the record says."""
    by_folder = {run.folder: run for run in runs}

    @functools.cache
    def scored(folder: Path, name: str) -> Mapping[str, float] | None:
        run = by_folder[folder]
        loaded, entry = load_answers(run, name), run.record.scores[name]
        try:
            scores = scores_by_question(*loaded) if loaded else {}
        except ValueError:
            return None
        same = 0 < len(scores) == entry.num_samples and math.isclose(aggregate.mean(scores.values()), entry.value)
        return scores if same else None

    return lambda run, name: scored(run.folder, name)
