"""Numbers computed from many answers: means and standard errors, means per type, CircularEval, perplexity."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vrx.config.errors import UserError
from vrx.metrics.answer import Answer


def mean(scores: Iterable[float]) -> float:
    """The arithmetic mean, bit-identical for any order of the scores."""
    scores = list(scores)
    if not scores:
        raise UserError("no scores to average: the benchmark has no answers")
    return math.fsum(scores) / len(scores)


def standard_error(scores: Iterable[float]) -> float:
    """Standard error of the mean, from the sample variance (n - 1); 0 for a single score."""
    scores = list(scores)
    centre = mean(scores)
    variance = math.fsum((score - centre) ** 2 for score in scores) / max(1, len(scores) - 1)
    return math.sqrt(variance / len(scores))


def circular(answers: Iterable[Answer], metric: Callable[[Answer], float]) -> list[float]:
    """One score per question: 1 if every rotation of it, the answers of one `group`, is right (CircularEval).

    Questions come in the order of their first rotation; an answer without a group is a question of its own.
    """
    answers = list(answers)
    return list(circular_by_question(answers, map(metric, answers)).values())


def circular_by_question(answers: Iterable[Answer], scores: Iterable[float]) -> dict[str, float]:
    """As `circular`, from the scores of the answers; keys are `group <group>`, or the id of an answer without one."""
    all_right: dict[str, bool] = {}
    for answer, score in zip(answers, scores, strict=True):
        question = f"group {answer.group}" if answer.group else answer.id
        all_right[question] = all_right.get(question, True) and score == 1
    return {question: float(right) for question, right in all_right.items()}


def mean_per_type(
    answers: Iterable[Answer], scores: Iterable[float], *, harmonic: bool = False, normalised: bool = False
) -> float:
    """Mean over question types of the mean score of the type (TDIUC's MPT; BBH's mean over tasks).

    `harmonic` takes the harmonic mean over types, which is 0 if one type scores 0. `normalised` (N-MPT) first
    averages over the distinct references of a type, so that frequent answers count no more than rare ones;
    references outside the answer key (see `tdiuc_match`) count as one.
    """
    by_type: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for answer, score in zip(answers, scores, strict=True):
        in_key = not answer.choices or any(gold in answer.choices for gold in answer.references)
        by_type[answer.question_type][answer.references if normalised and in_key else ()].append(score)
    accuracies = [mean(map(mean, by_reference.values())) for by_reference in by_type.values()]
    if not harmonic:
        return mean(accuracies)
    return min(1.0, 1 / mean(1 / (accuracy + 1e-12) for accuracy in accuracies))  # the script's 1e-10 percent


def perplexity(answers: Iterable[Answer]) -> dict[str, float]:
    """Perplexity by token, word and byte, and bits per byte, over all answers together (lm-eval's definitions).

    exp(-sum of log-likelihoods / sum of units), so that long texts weigh more; at most 1e304.
    """
    answers = list(answers)
    if missing := [answer.id for answer in answers if answer.log_likelihood is None]:
        raise UserError(
            f"answer {missing[0]!r} has no log_likelihood; set output_type: loglikelihood for its benchmark"
        )
    surprise = -math.fsum(answer.log_likelihood or 0.0 for answer in answers)
    units = {unit: sum(getattr(answer, f"num_{unit}s") for answer in answers) for unit in ("token", "word", "byte")}
    if not all(units.values()):
        raise UserError(f"no text to take the perplexity of: {units}")

    by_unit = {unit: math.exp(min(700.0, surprise / number)) for unit, number in units.items()}
    return {**by_unit, "bits_per_byte": surprise / units["byte"] / math.log(2)}


@dataclass(frozen=True)
class Aggregate:
    """How scores of single answers become one number.

    `by_question` gives the scores that the mean is over, by question. `extra_means` gives further means of all scores,
    by suffix of the metric's name. `extra_entry` gives further keys of the benchmark's entry in the record.
    """

    by_question: Callable[[list[Answer], list[float]], dict[str, float]]
    extra_means: Callable[[list[Answer], list[float]], dict[str, float]] = lambda answers, scores: {}
    extra_entry: Callable[[list[Answer]], dict[str, object]] = lambda answers: {}


def _by_answer(answers: list[Answer], scores: list[float]) -> dict[str, float]:
    return {answer.id: score for answer, score in zip(answers, scores, strict=True)}


def _means_of_rotations(answers: list[Answer], scores: list[float]) -> dict[str, float]:
    """The mean over all rotations, and over the first rotation of each question."""
    first: dict[str, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        first.setdefault(answer.group or answer.id, score)
    return {"_all_rotations": mean(scores), "_first_rotation": mean(first.values())}


AGGREGATES: dict[str, Aggregate] = {  # values of benchmark.*.aggregate
    "mean": Aggregate(_by_answer),
    "circular": Aggregate(circular_by_question, extra_means=_means_of_rotations),
    "perplexity": Aggregate(_by_answer, extra_entry=lambda answers: {"perplexity": perplexity(answers)}),
}
