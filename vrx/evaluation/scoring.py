"""From the answers to a benchmark to its entry in the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.metrics.aggregate import circular_by_question, mean, mean_per_type, perplexity, standard_error
from vrx.metrics.answer import Answer


@dataclass(frozen=True)
class Aggregate:
    """How scores of single answers become one number.

    `by_question` gives the scores that the mean is over, by question. `extra_means` gives further means of all scores,
    by suffix of the metric's name. `extra_entry` gives further keys of the benchmark's entry.
    """

    by_question: Callable[[list[Answer], list[float]], dict[str, float]]
    extra_means: Callable[[list[Answer], list[float]], dict[str, float]] = lambda answers, scores: {}
    extra_entry: Callable[[list[Answer]], dict[str, Any]] = lambda answers: {}


def score_benchmark(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, Any]:
    """A benchmark's entry in the record.

    `value` is the main score, a fraction in [0, 1], over `num_samples` questions, `stderr` its standard error.
    `metrics` and `metrics_stderr` hold the other metrics by name. Metrics that count an empty answer as right are
    listed in `empty_answers_counted_right` with the number of such answers. A benchmark of log-likelihoods has its
    `perplexity` by unit instead, which is no fraction.
    """
    aggregate = _aggregate(config)
    means, errors, empty, num_samples = {}, {}, {}, 0
    for name, metric_name in {"score": config.metric, **config.extra_metrics}.items():
        metric = resolve_name("metric", metric_name)
        scores = [metric(answer) for answer in answers]
        means |= _means_per_type(name, config, answers, scores)
        means |= {f"{name}{suffix}": value for suffix, value in aggregate.extra_means(answers, scores).items()}
        by_question = list(aggregate.by_question(answers, scores).values())
        means[name], errors[name] = mean(by_question), standard_error(by_question)
        if name == "score":
            num_samples = len(by_question)
        if num_empty := sum(s == 1 and not a.text.strip() for a, s in zip(answers, scores, strict=True)):
            empty[name] = num_empty
    entry = {"value": means.pop("score"), "num_samples": num_samples, "stderr": errors.pop("score")}
    entry |= {"metrics": means, "metrics_stderr": errors}
    if extra := aggregate.extra_entry(answers):
        return {**entry, **extra}
    return {**entry, "empty_answers_counted_right": empty} if empty else entry


def scores_by_question(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, float]:
    """The main score of each question by its id; by `group <id>` where all rotations of a question count as one."""
    metric = resolve_name("metric", config.metric)
    return _aggregate(config).by_question(answers, [metric(answer) for answer in answers])


def _aggregate(config: BenchmarkConfig) -> Aggregate:
    if config.aggregate not in AGGREGATES:
        raise UserError(f"benchmark.*.aggregate={config.aggregate}: valid are {', '.join(AGGREGATES)}")
    return AGGREGATES[config.aggregate]


def _means_per_type(name: str, config: BenchmarkConfig, answers: list[Answer], scores: list[float]) -> dict[str, float]:
    """TDIUC's arithmetic and harmonic mean per type (MPT), and both normalised by answer frequency (N-MPT)."""
    means: dict[str, float] = {}
    for normalised in (False, True) if config.normalized_mean_per_type else (False,) if config.mean_per_type else ():
        prefix = f"{name}_normalized" if normalised else name
        means[f"{prefix}_mean_per_type"] = mean_per_type(answers, scores, normalised=normalised)
        harmonic = mean_per_type(answers, scores, harmonic=True, normalised=normalised)
        means[f"{prefix}_harmonic_mean_per_type"] = harmonic
    return means


def _by_answer(answers: list[Answer], scores: list[float]) -> dict[str, float]:
    return {answer.id: score for answer, score in zip(answers, scores, strict=True)}


def _means_of_rotations(answers: list[Answer], scores: list[float]) -> dict[str, float]:
    """The mean over all rotations, and over the first rotation of each question."""
    first: dict[str, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        first.setdefault(answer.group or answer.id, score)
    return {"_all_rotations": mean(scores), "_first_rotation": mean(first.values())}


AGGREGATES = {
    "mean": Aggregate(_by_answer),
    "circular": Aggregate(circular_by_question, extra_means=_means_of_rotations),
    "perplexity": Aggregate(_by_answer, extra_entry=lambda answers: {"perplexity": perplexity(answers)}),
}
