"""Whether two runs differ by more than chance: the paired bootstrap over the questions both have answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000
CHUNK = 4_000_000  # counts held at a time
LEAST = 10  # questions; below, resampling says nothing


@dataclass(frozen=True)
class Difference:
    """Mean of a minus mean of b, its 95 % interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float

    @property
    def beyond_chance(self) -> bool:
        return self.low > 0 or self.high < 0


def resampled(differences: Sequence[float], seed: int) -> np.ndarray:
    """Means of `DRAWS` resamples, with replacement, of per-question differences.

    Drawn as counts of the distinct values, which is the same thing and fast where scores are 0 or 1.
    """
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    random, total = np.random.default_rng(seed), int(counts.sum())
    step = max(1, CHUNK // len(values))
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    return np.concatenate([random.multinomial(total, counts / total, size=size) @ values / total for size in sizes])


def judged(value: float, means: np.ndarray) -> Difference:
    """The difference that resampled means allow: percentile interval, p by counting the resamples across zero."""
    across = min(int((means <= 0).sum()), int((means >= 0).sum()))
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(value, float(low), float(high), min(1.0, 2 * (across + 1) / (len(means) + 1)))


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Difference:
    """Compare two runs on the same questions, in the same order; the same seed gives the same bits."""
    return paired_bootstrap_of_average([(a, b)], seed)


def paired_bootstrap_of_average(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> Difference:
    """Compare the averages of two runs over several benchmarks, each a pair (a, b); each is resampled on its own."""
    values, means = [], np.zeros(DRAWS)
    for number, (a, b) in enumerate(pairs):
        if len(a) != len(b) or not len(a):
            raise ValueError(f"a paired comparison of {len(a)} and {len(b)} scores; give both for the same questions")
        differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
        values.append(float(differences.mean()))
        means += resampled(differences.tolist(), seed + 7919 * number) / len(pairs)
    return judged(sum(values) / len(values), means)


def in_common(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> tuple[list[float], list[float]] | None:
    """Scores by question of two runs, each a mean over its seeds; None unless all seeds answered the same questions."""
    everyone = [*a, *b]
    if not a or not b or len(everyone[0]) < LEAST or any(one.keys() != everyone[0].keys() for one in everyone):
        return None
    return tuple([sum(one[key] for one in side) / len(side) for key in everyone[0]] for side in (a, b))  # type: ignore
