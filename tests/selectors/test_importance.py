"""Importance scores equal their formulas, on known values and by invariances for any input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vrx.selectors import importance

STATE_SCORES = [
    importance.block_influence,
    importance.multimodal_block_influence,
    importance.angular_distance_inputs,
    importance.angular_distance_inputs_all_tokens,
]
CHANGES = [importance.parameter_change, importance.parameter_change_tensors, importance.parameter_change_norms]
ANGLES = [importance.angular_distance_weights, importance.angular_distance_weights_whole]
SEEDS = st.integers(0, 2**31)


def states(seed, *, batch=3, length=10, hidden=16):
    """Two states and the masks of real and image tokens: rows padded on the right, each with image and text."""
    generator = torch.Generator().manual_seed(seed)
    before, after = (torch.randn(batch, length, hidden, generator=generator) for _ in range(2))
    real = torch.arange(length) < torch.randint(7, length + 1, (batch, 1), generator=generator)
    image = (torch.arange(length) >= 2) & (torch.arange(length) < 5)
    return before, after, {"real": real, "image": image.expand(batch, -1)}


def naive(formula, before, after, real, image):
    """The formulas computed token by token, in fp64 and with arccos."""

    def cosine(token):
        x, y = before[token].double(), after[token].double()
        return (x @ y / (x.norm() * y.norm())).item()

    tokens = [token for token in range(len(real)) if real[token]]
    if formula is importance.block_influence:
        return 1 - sum(map(cosine, tokens)) / len(tokens)
    if formula is importance.multimodal_block_influence:
        images, texts = [t for t in tokens if image[t]], [t for t in tokens if not image[t]]
        return 1 - (sum(map(cosine, images)) / len(images) + sum(map(cosine, texts)) / len(texts)) / 2
    if formula is importance.angular_distance_inputs:
        return math.acos(cosine(tokens[-1])) / math.pi
    return sum(math.acos(cosine(token)) / math.pi for token in tokens) / len(tokens)


@pytest.mark.parametrize("formula", STATE_SCORES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_state_scores_equal_the_naive_formulas(formula, seed):
    before, after, marks = states(seed)
    expected = [naive(formula, before[i], after[i], marks["real"][i], marks["image"][i]) for i in range(len(before))]
    torch.testing.assert_close(formula(before, after, **marks), torch.tensor(expected).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("formula", STATE_SCORES)
def test_layer_that_changes_nothing_has_score_zero(formula):
    before, _, marks = states(0)
    assert formula(before, before, **marks).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("formula", STATE_SCORES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_scores_do_not_depend_on_the_length_of_a_state(formula, seed, scale):
    before, after, marks = states(seed)
    torch.testing.assert_close(formula(before, scale * after, **marks), formula(before, after, **marks))
    assert formula(before, scale * before, **marks).abs().max() < 1e-6


@pytest.mark.parametrize("formula", STATE_SCORES)
def test_scores_do_not_depend_on_padding_on_either_side(formula):
    before, after, marks = states(0)
    expected = formula(before, after, **marks)
    garbage = torch.full_like(before[:, :4], math.nan)
    for order in (lambda parts: parts, lambda parts: parts[::-1]):
        longer = [torch.cat(order([garbage, tensor]), 1) for tensor in (before, after)]
        pads = torch.zeros(3, 4, dtype=torch.bool)
        wider = {name: torch.cat(order([pads, mark]), 1) for name, mark in marks.items()}
        torch.testing.assert_close(formula(*longer, **wider), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("formula", [f for f in STATE_SCORES if f is not importance.angular_distance_inputs])
def test_scores_do_not_depend_on_the_order_of_tokens(formula):
    before, after, marks = states(1)
    order = torch.randperm(before.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = {name: mark[:, order] for name, mark in marks.items()}
    torch.testing.assert_close(formula(before[:, order], after[:, order], **shuffled), formula(before, after, **marks))


@pytest.mark.parametrize("formula", STATE_SCORES[2:])
@pytest.mark.parametrize(("turned", "expected"), [((1.0, 0.0), 0.0), ((0.0, 2.0), 0.5), ((-3.0, 0.0), 1.0)])
def test_angle_of_equal_orthogonal_and_opposite_inputs(formula, turned, expected):
    before, after = torch.tensor([[[1.0, 0.0]] * 2]), torch.tensor([[turned] * 2])
    marks = {"real": torch.ones(1, 2, dtype=torch.bool), "image": torch.zeros(1, 2, dtype=torch.bool)}
    assert formula(before, after, **marks).item() == pytest.approx(expected, abs=1e-7)


def test_modalities_have_equal_weight_for_any_number_of_tokens():
    before = torch.tensor([[[1.0, 0.0]] * 10])
    image = (torch.arange(10) < 9)[None]
    marks = {"real": torch.ones(1, 10, dtype=torch.bool), "image": image}
    after = torch.where(image[..., None], before, torch.tensor([0.0, 1.0]))  # only the one text token moves
    assert importance.multimodal_block_influence(before, after, **marks).item() == pytest.approx(0.5)
    assert importance.block_influence(before, after, **marks).item() == pytest.approx(0.1)


@pytest.mark.parametrize("formula", [importance.block_influence, importance.angular_distance_inputs_all_tokens])
def test_zero_state_is_left_out_but_nan_is_not(formula):
    before, after, marks = states(2)
    without = {**marks, "real": marks["real"].clone()}
    without["real"][:, 1] = False
    expected = formula(before, after, **without)
    before[:, 1] = 0
    assert torch.equal(formula(before, after, **marks), expected)
    before[:, 1] = math.nan
    assert formula(before, after, **marks).isnan().all()


def attention(seed, *, heads=4, key_heads=2, length=12):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(2, heads, length, 8, generator=generator)
    keys = torch.randn(2, key_heads, length, 8, generator=generator)
    _, _, marks = states(seed, batch=2, length=length)
    return queries, keys, marks


def full_map(queries, keys, scaling):
    """Causal attention weights, (batch, heads, queries, keys)."""
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
    scores = scaling * queries.double() @ keys.double().transpose(-1, -2)
    visible = torch.ones(scores.shape[-2:]).tril().bool()
    return scores.masked_fill(~visible, -math.inf).softmax(-1)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("chunk", [1, 300, 2**22])
def test_chunked_image_attention_equals_that_of_the_full_map(monkeypatch, chunk, key_heads):
    monkeypatch.setattr(importance, "CHUNK_ELEMENTS", chunk)
    queries, keys, marks = attention(0, key_heads=key_heads)
    weights = full_map(queries, keys, 0.3)
    used = weights * marks["real"][:, None, :, None] * marks["image"][:, None, None]
    received = importance.attention_received(queries, keys, scaling=0.3, **marks)
    torch.testing.assert_close(received, used.sum((1, 2, 3)), atol=1e-5, rtol=0)
    causal = torch.ones(12, 12, dtype=torch.bool).tril().expand(2, 1, 12, 12)
    added = torch.zeros(causal.shape).masked_fill(~causal, torch.finfo(torch.float32).min)
    for mask in (causal, added):
        same = importance.attention_received(queries, keys, scaling=0.3, mask=mask, **marks)
        torch.testing.assert_close(same, received, atol=1e-6, rtol=0)


def test_image_attention_and_its_share_divide_the_same_sum():
    queries, keys, marks = attention(1)
    everything = {"real": torch.ones(2, 12, dtype=torch.bool), "image": torch.ones(2, 12, dtype=torch.bool)}
    received = importance.attention_received(queries, keys, scaling=0.3, **everything)
    share = importance.image_attention_share(received, **everything, num_heads=4)
    torch.testing.assert_close(share, torch.ones(2).double())  # every token is an image token
    received = importance.attention_received(queries, keys, scaling=0.3, **marks)
    score = importance.image_attention(received, **marks, num_heads=4)
    share = importance.image_attention_share(received, **marks, num_heads=4)
    torch.testing.assert_close(score * marks["image"].sum(1), share * marks["real"].sum(1))


def tensors(seed, *, num=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 7, generator=generator) for _ in range(num)]


def deltas(tuned, backbone):
    return [importance.tensor_delta(new, old) for new, old in zip(tuned, backbone, strict=True)]


@pytest.mark.parametrize("formula", [*CHANGES, *ANGLES])
def test_unchanged_weights_have_score_zero(formula):
    weights = tensors(0)
    assert formula(deltas(weights, weights)) == 0


@pytest.mark.parametrize("formula", CHANGES)
def test_scaling_all_weights_by_1_1_is_a_change_of_a_tenth(formula):
    weights = [tensor.double() for tensor in tensors(1)]
    assert formula(deltas([1.1 * tensor for tensor in weights], weights)) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("formula", ANGLES)
@pytest.mark.parametrize(("turned", "expected"), [((2.0, 0.0), 0.0), ((0.0, 3.0), 0.5), ((-1.0, 0.0), 1.0)])
def test_angle_of_equal_orthogonal_and_opposite_weights(formula, turned, expected):
    assert formula(deltas([torch.tensor(turned)], [torch.tensor([1.0, 0.0])])) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=SEEDS)
def test_weight_scores_equal_the_naive_formulas(seed):
    new, old = tensors(seed), tensors(seed + 1)
    layer_deltas = deltas(new, old)
    flat_new, flat_old = (torch.cat([tensor.double().flatten() for tensor in group]) for group in (new, old))

    def angle(a, b):
        return torch.arccos(a @ b / (a.norm() * b.norm())).item() / math.pi

    pairs = [(a.double().flatten(), b.double().flatten()) for a, b in zip(new, old, strict=True)]
    expected = {
        importance.parameter_change: ((flat_new - flat_old) / flat_old).abs().mean().item(),
        importance.parameter_change_tensors: sum(((a - b).norm() / b.norm()).item() for a, b in pairs) / len(pairs),
        importance.parameter_change_norms: ((flat_new - flat_old).norm() / flat_old.norm()).item(),
        importance.angular_distance_weights: sum(angle(a, b) for a, b in pairs) / len(pairs),
        importance.angular_distance_weights_whole: angle(flat_new, flat_old),
    }
    for formula, value in expected.items():
        assert formula(layer_deltas) == pytest.approx(value, rel=1e-9), formula.__name__


def test_small_angle_of_the_weights_is_accurate():
    old = torch.tensor([1.0, 0.0], dtype=torch.float64)
    new = torch.tensor([math.cos(1e-6), math.sin(1e-6)], dtype=torch.float64)
    assert importance.angular_distance_weights(deltas([new], [old])) == pytest.approx(1e-6 / math.pi, rel=1e-3)


def test_tensor_delta_does_not_depend_on_the_chunk_size(monkeypatch):
    (new,), (old,) = tensors(3, num=1), tensors(4, num=1)
    expected = importance.tensor_delta(new, old)
    monkeypatch.setattr(importance, "CHUNK_ELEMENTS", 4)
    assert vars(importance.tensor_delta(new, old)) == pytest.approx(vars(expected), rel=1e-12)


def test_parameters_that_are_zero_in_the_backbone_have_no_ratio():
    old, new = torch.tensor([0.0, 2.0]), torch.tensor([5.0, 3.0])
    assert importance.parameter_change(deltas([new], [old])) == 0.5
    zeros = torch.zeros(2)
    for formula in [*CHANGES, *ANGLES]:
        assert formula(deltas([new, zeros], [old, zeros])) == formula(deltas([new], [old]))
        assert math.isnan(formula(deltas([new], [zeros]))), formula.__name__


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=SEEDS, cut=st.integers(0, 9))
def test_running_mean_does_not_depend_on_the_batch_split(seed, cut):
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed))
    mean = importance.RunningMean(4)
    mean.add(rows[:cut])
    mean.add(rows[cut:])
    assert mean.scores() == pytest.approx(rows.double().mean(0).tolist(), rel=1e-12)


def test_layers_without_a_finite_score_are_refused_by_number():
    mean = importance.RunningMean(3)
    with pytest.raises(ValueError, match="no samples"):
        mean.scores()
    mean.add(torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, math.inf]]))
    with pytest.raises(ValueError, match=r"without a finite score: 1 \(nan\), 2 \(inf\)"):
        mean.scores()
