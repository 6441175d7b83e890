"""A benchmark's entry in the record, from its answers."""

from __future__ import annotations

from typing import Any

from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.metrics.aggregate import circular, mean, mean_per_type, perplexity, standard_error
from vrx.metrics.answer import Answer


def score_benchmark(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, Any]:
    """A benchmark's entry in the record: the main score, how many questions it is over, its standard error, and every
    metric by name with its own, fractions in [0, 1]; of a likelihood also the `perplexity`, which is none.

    Metrics that count an empty answer as right are told with how often they did.
    """
    means, errors, empty, number = {}, {}, {}, 0
    for name, path in {"score": config.metric, **config.extra_metrics}.items():
        metric = resolve_name("metric", path)
        each = [metric(answer) for answer in answers]
        means |= _other_means(name, each, config, answers)
        counted = circular(answers, metric) if config.aggregate == "circular" else each
        means[name], errors[name] = mean(counted), standard_error(counted)
        if name == "score":
            number = len(counted)
        if wrong := sum(score == 1 and not answer.text.strip() for answer, score in zip(answers, each, strict=True)):
            empty[name] = wrong
    entry = {"value": means.pop("score"), "num_samples": number, "stderr": errors.pop("score")}
    entry |= {"metrics": means, "metrics_stderr": errors}
    if config.aggregate == "perplexity":
        return {**entry, "perplexity": perplexity(answers)}
    return {**entry, "empty_answers_counted_right": empty} if empty else entry


def _other_means(name: str, each: list[float], config: BenchmarkConfig, answers: list[Answer]) -> dict[str, float]:
    """The other means there are of a metric's scores of all questions, by name."""
    found: dict[str, float] = {}
    kinds = (False, True) if config.normalized_mean_per_type else (False,) if config.mean_per_type else ()
    for normalised in kinds:
        suffix = "_per_type_and_answer" if normalised else "_per_type"
        found[f"{name}{suffix}"] = mean_per_type(answers, each, normalised=normalised)
        found[f"{name}{suffix}_harmonic"] = mean_per_type(answers, each, harmonic=True, normalised=normalised)
    if config.aggregate == "circular":
        first: dict[str, float] = {}
        for answer, score in zip(answers, each, strict=True):
            first.setdefault(answer.group or answer.id, score)
        found |= {f"{name}_every_row": mean(each), f"{name}_first_pass": mean(first.values())}
    return found
