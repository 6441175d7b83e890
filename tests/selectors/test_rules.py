"""Selectors return the paper's lists, and for any decoder `k` distinct layers in ascending order."""

from __future__ import annotations

import random as stdlib_random
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.selectors import rules
from vrx.selectors.rules import consecutive, fixed, hybrid_top_lower, most_important, random, sparse_uniform

reproducible = settings(deadline=None, derandomize=True)  # and independent of the machine's load


@st.composite
def decoders(draw: st.DrawFn) -> tuple[int, int]:
    """(num_layers, k) of any decoder of 2 to 80 layers."""
    num_layers = draw(st.integers(2, 80))
    return num_layers, draw(st.integers(1, num_layers))


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[float], int]:
    """(scores, k); scores often tie."""
    num_layers, k = draw(decoders())
    score = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-1e3, 1e3)
    return draw(st.lists(score, min_size=num_layers, max_size=num_layers)), k


SELECTORS: dict[str, Callable[[int, int], rules.Layers]] = {
    "sparse_uniform": sparse_uniform,
    "consecutive lower": partial(consecutive, start="lower"),
    "consecutive top": partial(consecutive, start="top"),
    "hybrid_top_lower": hybrid_top_lower,
    "random": partial(random, seed=0),
    "most_important": lambda num_layers, k: most_important(
        num_layers, k, scores=[layer % 7 for layer in range(num_layers)]
    ),
}


@pytest.mark.parametrize("name", SELECTORS)
@reproducible
@given(decoder=decoders())
def test_selectors_return_k_distinct_ascending_layers(name: str, decoder: tuple[int, int]):
    num_layers, k = decoder
    layers = SELECTORS[name](num_layers, k)
    assert len(layers) == k
    assert list(layers) == sorted(set(layers))
    assert set(layers) <= set(range(num_layers))
    assert SELECTORS[name](num_layers, k) == layers


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("k", [-1, 0, 33])
def test_count_outside_the_decoder_is_refused(name: str, k: int):
    with pytest.raises(ValueError, match=rf"layer_count\.k={k}: valid are 1 to 32"):
        SELECTORS[name](32, k)


@reproducible
@given(decoder=decoders())
def test_all_returns_every_layer_for_any_k(decoder: tuple[int, int]):
    assert rules.all(*decoder) == tuple(range(decoder[0]))


@reproducible
@given(decoder=decoders())
def test_selectors_agree_when_every_layer_is_selected(decoder: tuple[int, int]):
    num_layers, _ = decoder
    assert {select(num_layers, num_layers) for select in SELECTORS.values()} == {tuple(range(num_layers))}


# ---- sparse_uniform

PRINTED = {  # footnote 2 of the paper
    16: (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
    8: (0, 4, 8, 12, 18, 22, 26, 30),
    6: (0, 6, 12, 18, 24, 30),
    4: (0, 10, 20, 30),
    2: (0, 31),
    1: (31,),
}


@pytest.mark.parametrize("k", PRINTED)
def test_sparse_uniform_returns_the_papers_lists(k: int):
    assert sparse_uniform(32, k) == PRINTED[k]


def test_offset_one_returns_the_default_of_the_released_code():
    assert sparse_uniform(32, 8, offset=1) == (1, 5, 9, 13, 19, 23, 27, 31)


@reproducible
@given(decoder=decoders())
def test_gaps_of_sparse_uniform_differ_by_at_most_two(decoder: tuple[int, int]):
    layers = sparse_uniform(*decoder)
    gaps = [after - before for before, after in pairwise(layers)]
    assert not gaps or max(gaps) - min(gaps) <= 2


@reproducible
@given(decoder=decoders(), offset=st.integers(-3, 3))
def test_offset_moves_every_layer_or_is_refused_if_a_layer_leaves_the_decoder(decoder: tuple[int, int], offset: int):
    num_layers, k = decoder
    moved = tuple(layer + offset for layer in sparse_uniform(num_layers, k))
    if set(moved) <= set(range(num_layers)):
        assert sparse_uniform(num_layers, k, offset=offset) == moved
    else:
        with pytest.raises(ValueError, match=r"not among the layers 0 to"):
            sparse_uniform(num_layers, k, offset=offset)


# ---- blocks


@pytest.mark.parametrize(
    ("start", "first"), [("lower", 0), ("lower_middle", 8), ("upper_middle", 16), ("top", 24), (5, 5), ("5", 5)]
)
def test_consecutive_returns_one_block_from_its_start(start: str | int, first: int):
    assert consecutive(32, 8, start=start) == tuple(range(first, first + 8))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("middle", "valid are lower, lower_middle, upper_middle, top or a layer"),
        (25, "a block of 8 layers must start at 0 to 24"),
        ("25", "a block of 8 layers must start at 0 to 24"),
        (-1, "valid are"),
        (2.5, "valid are"),
    ],
)
def test_start_without_room_for_the_block_is_refused(start: str | int, reason: str):
    with pytest.raises(ValueError, match=rf"selector\.start={start}: .*{reason}"):
        consecutive(32, 8, start=start)


@pytest.mark.parametrize(
    ("k", "layers"),
    [
        (8, (0, 1, 2, 3, 28, 29, 30, 31)),  # section 4.1
        (3, (0, 1, 31)),
        (1, (0,)),
    ],
)
def test_hybrid_takes_half_of_the_layers_from_either_end(k: int, layers: rules.Layers):
    assert hybrid_top_lower(32, k) == layers


# ---- random


@reproducible
@given(decoder=decoders(), seed=st.integers(0, 2**32), other=st.integers())
def test_random_depends_only_on_its_seed(decoder: tuple[int, int], seed: int, other: int):
    stdlib_random.seed(other)
    before = stdlib_random.getstate()
    layers = random(*decoder, seed=seed)
    assert stdlib_random.getstate() == before  # the global generator is not used
    stdlib_random.seed(other + 1)
    assert random(*decoder, seed=seed) == layers


def test_random_can_draw_every_layer():
    assert {layer for seed in range(100) for layer in random(32, 8, seed=seed)} == set(range(32))


# ---- most_important


@reproducible
@given(case=scored())
def test_most_important_selects_the_highest_scores(case: tuple[list[float], int]):
    scores, k = case
    chosen = most_important(len(scores), k, scores=scores)
    for left in set(range(len(scores))) - set(chosen):
        assert all((scores[layer], -layer) > (scores[left], -left) for layer in chosen)  # ties go to the lower layer


def test_wrong_number_of_scores_is_refused():
    with pytest.raises(ValueError, match="3 importance scores for a model with 32 decoder layers"):
        most_important(32, 2, scores=[1.0, 2.0, 3.0])


# ---- fixed


@reproducible
@given(decoder=decoders(), seed=st.integers())
def test_fixed_sorts_its_list(decoder: tuple[int, int], seed: int):
    layers = random(*decoder, seed=seed)
    shuffled = stdlib_random.Random(seed).sample(layers, len(layers))
    assert fixed(*decoder, layers=shuffled) == layers


@pytest.mark.parametrize(
    ("k", "layers", "reason"),
    [
        (1, [], r"selector\.layers=\[\]: name at least one of the layers 0 to 31"),
        (3, [1, 2, 1], r"selector\.layers=\[1, 2, 1\]: duplicate layer 1"),
        (2, [0, 32], r"selector\.layers=\[0, 32\]: \[32\] not among the layers 0 to 31"),
        (2, [-1, 0], r"selector\.layers=\[-1, 0\]: \[-1\] not among the layers 0 to 31"),
        (8, [1, 2], r"layer_count\.k=8: must be 2, the number of layers in the selector"),
    ],
)
def test_list_that_is_not_k_distinct_layers_of_the_decoder_is_refused(k: int, layers: list[int], reason: str):
    with pytest.raises(ValueError, match=reason):
        fixed(32, k, layers=layers)
