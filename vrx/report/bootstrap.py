"""Whether two runs differ by more than chance: the paired bootstrap over the questions that both answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 4000
CHUNK = 4_000_000  # counts in memory at a time
MIN_QUESTIONS = 10  # with fewer, resampling says nothing
SEED_STEP = 7919  # between the seeds of two benchmarks


@dataclass(frozen=True)
class Difference:
    """Mean of a minus mean of b, its 95 % interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float

    @property
    def beyond_chance(self) -> bool:
        """Whether zero is outside the interval."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> Difference:
    """Compare the averages of two runs over several benchmarks.

    pairs: the scores (a, b) of each benchmark, of the same questions in the same order; each benchmark is resampled on
    its own and counts the same. The same seed gives the same bits. `ValueError` where a pair has two lengths.
    """
    values, means = [], np.zeros(NUM_RESAMPLES)
    for number, (a, b) in enumerate(pairs):
        if len(a) != len(b) or not len(a):
            raise ValueError(f"cannot pair {len(a)} with {len(b)} scores: both runs need the same questions")
        differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
        values.append(float(differences.mean()))
        means += resampled_means(differences.tolist(), seed + SEED_STEP * number) / len(pairs)
    return summarize(sum(values) / len(values), means)


def resampled_means(differences: Sequence[float], seed: int) -> np.ndarray:
    """Means of `NUM_RESAMPLES` resamples, with replacement, of per-question differences.

    Drawn as counts of the distinct values, which is equivalent and fast where scores are 0 or 1.
    """
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    random, total = np.random.default_rng(seed), int(counts.sum())
    step = max(1, CHUNK // len(values))
    sizes = [min(step, NUM_RESAMPLES - start) for start in range(0, NUM_RESAMPLES, step)]
    return np.concatenate([random.multinomial(total, counts / total, size=size) @ values / total for size in sizes])


def summarize(value: float, means: np.ndarray) -> Difference:
    """The difference with its percentile interval; p counts the resamples on the other side of zero."""
    across_zero = min(int((means <= 0).sum()), int((means >= 0).sum()))
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(value, float(low), float(high), min(1.0, 2 * (across_zero + 1) / (len(means) + 1)))


def pair_scores(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> tuple[list[float], list[float]] | None:
    """Scores by question of two rows of runs, each a mean over its seeds.

    None unless all runs answered the same questions, at least `MIN_QUESTIONS`.
    """
    runs = [*a, *b]
    if not a or not b or len(runs[0]) < MIN_QUESTIONS or any(run.keys() != runs[0].keys() for run in runs):
        return None
    return _mean_over_seeds(a, list(runs[0])), _mean_over_seeds(b, list(runs[0]))


def _mean_over_seeds(runs: Sequence[Mapping[str, float]], questions: Sequence[str]) -> list[float]:
    return [sum(run[question] for run in runs) / len(runs) for question in questions]
