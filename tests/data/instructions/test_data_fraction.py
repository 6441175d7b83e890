"""A data fraction is a nested random subset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.instruction_data import unhurried

from vrx.data.instructions.instruction_dataset import draw_subset

num_rows, seeds = st.integers(1, 500), st.integers()
fractions = st.floats(0, 1, exclude_min=True)


@unhurried
@given(num_rows=num_rows, fraction=fractions, seed=seeds)
def test_fraction_gives_that_many_distinct_rows(num_rows: int, fraction: float, seed: int):
    rows = draw_subset(num_rows, fraction, seed=seed)
    assert len(rows) == len(set(rows)) == max(1, round(fraction * num_rows))
    assert set(rows) <= set(range(num_rows))
    assert draw_subset(num_rows, fraction, seed=seed) == rows


@unhurried
@given(num_rows=num_rows, small=fractions, large=fractions, seed=seeds)
def test_smaller_fraction_is_the_beginning_of_a_larger_one(num_rows: int, small: float, large: float, seed: int):
    small, large = sorted((small, large))
    smaller = draw_subset(num_rows, small, seed=seed)
    assert draw_subset(num_rows, large, seed=seed)[: len(smaller)] == smaller


def test_ten_percent_are_part_of_a_quarter_and_that_of_all():
    tenth, quarter, full = (set(draw_subset(1000, fraction, seed=0)) for fraction in (0.1, 0.25, 1.0))
    assert tenth < quarter < full == set(range(1000))
    assert (len(tenth), len(quarter)) == (100, 250)


def test_five_seeds_draw_five_distinct_subsets():
    assert len({frozenset(draw_subset(1000, 0.1, seed=seed)) for seed in range(5)}) == 5
