"""From the answers to a benchmark to its entry in the record."""

from __future__ import annotations

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.metrics.aggregate import AGGREGATES, Aggregate, mean, mean_per_type, standard_error
from vrx.metrics.answer import Answer


def score_benchmark(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, object]:
    """A benchmark's entry in the record.

    `value` is the main score, a fraction in [0, 1], over `num_samples` questions, `stderr` its standard error.
    `metrics` and `metrics_stderr` hold the other metrics by name. Metrics that count an empty answer as right are
    listed in `empty_answers_counted_right` with the number of such answers. A benchmark of log-likelihoods has its
    `perplexity` by unit instead, which is no fraction.
    """
    aggregate = aggregate_of(config)
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
    entry: dict[str, object] = {"value": means.pop("score"), "num_samples": num_samples, "stderr": errors.pop("score")}
    entry |= {"metrics": means, "metrics_stderr": errors}
    if extra := aggregate.extra_entry(answers):
        return {**entry, **extra}
    return {**entry, "empty_answers_counted_right": empty} if empty else entry


def scores_by_question(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, float]:
    """The main score of each question by its id; by `group <id>` where all rotations of a question count as one."""
    metric = resolve_name("metric", config.metric)
    return aggregate_of(config).by_question(answers, [metric(answer) for answer in answers])


def aggregate_of(config: BenchmarkConfig) -> Aggregate:
    """How the scores of a benchmark's answers become one number."""
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
