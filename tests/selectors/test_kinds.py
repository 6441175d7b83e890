"""Selections among layers of several kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrx.config.errors import UserError
from vrx.selectors import sparse_uniform
from vrx.selectors.kinds import missed, select

QWEN = [("linear_attention", "full_attention")[layer % 4 == 3] for layer in range(32)]
GEMMA = [("sliding_attention", "full_attention")[layer % 6 == 5] for layer in range(34)]


def uniform(layers, count):
    return sparse_uniform(len(layers), count)


@pytest.mark.parametrize("kinds", [QWEN, GEMMA])
def test_sparse_uniform_alone_misses_full_attention(kinds):
    assert missed(kinds, sparse_uniform(len(kinds), 8)) == {"full_attention": kinds.count("full_attention")}


def test_each_kind_gets_its_share():
    layers = select(QWEN, 8, wanted="each", rule=uniform)
    assert [QWEN[layer] for layer in layers].count("full_attention") == 2
    assert missed(QWEN, layers) == {}


@pytest.mark.parametrize("wanted", ["full", "full_attention"])
def test_one_kind_is_chosen_among_its_layers_alone(wanted):
    assert select(QWEN, 4, wanted=wanted, rule=uniform) == tuple(3 + 4 * place for place in sparse_uniform(8, 4))


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=3, max_size=40), st.data())
def test_shares_add_up_and_fit(kinds, data):
    k = data.draw(st.integers(len(set(kinds)), len(kinds)))
    layers = select(kinds, k, wanted="each", rule=lambda among, count: tuple(range(count)))
    assert len(set(layers)) == k
    assert missed(kinds, layers) == {}
    for kind in set(kinds):
        count = sum(kinds[layer] == kind for layer in layers)
        assert abs(count - k * kinds.count(kind) / len(kinds)) <= len(set(kinds))


@pytest.mark.parametrize(
    ("k", "wanted", "message"),
    [
        (4, "sliding", "selector.kinds=sliding: no decoder layer is of this kind; valid are any, each, linear"),
        (9, "full", "layer_count.k=9: 8 decoder layers are of the kind full_attention"),
        (1, "each", "layer_count.k=1: selector.kinds=each needs a layer of each of linear_attention, full_attention"),
    ],
)
def test_what_no_kind_has_is_refused(k, wanted, message):
    with pytest.raises(UserError, match=message):
        select(QWEN, k, wanted=wanted, rule=uniform)
