"""A data fraction is a nested random subset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.instruction_data import unhurried

from vrx.data.instruction_dataset import draw_subset

num_rows, seeds = st.integers(1, 500), st.integers()
fractions = st.floats(0, 1, exclude_min=True)


@unhurried
@given(num_rows=num_rows, fraction=fractions, seed=seeds)
def test_a_fraction_is_that_many_distinct_rows(num_rows: int, fraction: float, seed: int):
    rows = draw_subset(num_rows, fraction, seed=seed)
    assert len(rows) == len(set(rows)) == max(1, round(fraction * num_rows))
    assert set(rows) <= set(range(num_rows))
    assert draw_subset(num_rows, fraction, seed=seed) == rows


@unhurried
@given(num_rows=num_rows, small=fractions, large=fractions, seed=seeds)
def test_a_smaller_fraction_begins_the_larger(num_rows: int, small: float, large: float, seed: int):
    small, large = sorted((small, large))
    begun = draw_subset(num_rows, small, seed=seed)
    assert draw_subset(num_rows, large, seed=seed)[: len(begun)] == begun


def test_ten_percent_lie_in_a_quarter_and_that_in_all():
    tenth, quarter, whole = (set(draw_subset(1000, fraction, seed=0)) for fraction in (0.1, 0.25, 1.0))
    assert tenth < quarter < whole == set(range(1000))
    assert (len(tenth), len(quarter)) == (100, 250)


def test_another_seed_draws_other_rows():
    assert len({frozenset(draw_subset(1000, 0.1, seed=seed)) for seed in range(5)}) == 5
