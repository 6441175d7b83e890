"""The paired bootstrap."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.report.bootstrap import pair_scores, paired_bootstrap

SCORES = st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=10, max_size=60)
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=10, max_size=60)


@settings(deadline=None, max_examples=25)
@given(scores=SCORES, seed=st.integers(0, 99))
def test_a_run_does_not_differ_from_itself(scores: list[float], seed: int):
    result = paired_bootstrap([(scores, scores)], seed)
    assert (result.value, result.low, result.high, result.p, result.beyond_chance) == (0, 0, 0, 1, False)


@settings(deadline=None, max_examples=25)
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_the_difference_is_inside_its_interval_and_changes_sign_with_the_sides(
    pairs: list[tuple[float, float]], seed: int
):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    result, swapped = paired_bootstrap([(a, b)], seed), paired_bootstrap([(b, a)], seed)
    assert result == paired_bootstrap([(a, b)], seed)
    assert result.value == pytest.approx(statistics.fmean(a) - statistics.fmean(b))
    assert result.low - 1e-12 <= result.value <= result.high + 1e-12
    assert swapped.value == pytest.approx(-result.value)
    assert 0 < result.p <= 1


def test_the_interval_agrees_with_the_standard_error():
    generator = random.Random(0)
    a, b = ([generator.random() for _ in range(500)] for _ in range(2))
    result = paired_bootstrap([(a, b)])
    error = statistics.stdev(x - y for x, y in zip(a, b, strict=True)) / 500**0.5
    assert (result.high - result.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_equal_skills_are_marked_about_one_time_in_twenty():
    num_marked = 0
    for number in range(200):
        generator = random.Random(number)
        a, b = ([float(generator.random() < 0.6) for _ in range(100)] for _ in range(2))
        num_marked += paired_bootstrap([(a, b)], number).beyond_chance
    assert 2 <= num_marked <= 22


def test_pairing_finds_what_unpaired_errors_hide():
    base = [float(number % 2) for number in range(200)]
    better = [1.0 if number in (0, 2, 4, 6, 8, 10, 12, 14) else value for number, value in enumerate(base)]
    # 4 points of difference, with a standard error of 3.5 on either side
    assert paired_bootstrap([(better, base)]).beyond_chance


def test_an_average_weighs_benchmarks_equally_and_has_a_narrower_interval():
    generator = random.Random(1)
    pairs = [tuple([float(generator.random() < skill) for _ in range(150)] for skill in (0.7, 0.6)) for _ in range(8)]
    average = paired_bootstrap(pairs)
    single = [paired_bootstrap([pair]) for pair in pairs]
    assert average.value == pytest.approx(statistics.fmean(result.value for result in single))
    assert average.high - average.low < min(result.high - result.low for result in single)


def test_scores_of_other_questions_are_not_paired():
    scores = {str(number): 1.0 for number in range(20)}
    assert pair_scores([scores], [scores]) == ([1.0] * 20, [1.0] * 20)
    assert pair_scores([scores], [{**scores, "more": 0.0}]) is None
    assert pair_scores([scores], []) is None
    with pytest.raises(ValueError, match="cannot pair 2 with 1 scores"):
        paired_bootstrap([([1, 0], [1])])


def test_few_questions_are_not_paired():
    assert pair_scores([{"a": 1.0}], [{"a": 0.0}]) is None
