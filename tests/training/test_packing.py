"""Packed samples do not see each other."""

from __future__ import annotations

import pytest
import torch

from vrx.data.batch import TrainingSample, collate
from vrx.training import loss, packing


@pytest.mark.parametrize("lengths", [[4, 1, 7], [4, 4, 4], [12]])
@pytest.mark.parametrize("window", [None, 3, 100])
def test_each_packed_sample_attends_to_itself_only(window, lengths):
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    query, key, value = (torch.randn(1, heads, 12, 8) for heads in (4, 2, 2))
    packed, _ = packing.attend(module, query, key, value, None, sample_lengths=lengths, sliding_window=window)
    first = 0
    for length in lengths:
        positions = slice(first, first + length)
        q, k, v = query[0, :, positions], *(x[0, :, positions].repeat_interleave(2, 0) for x in (key, value))
        near = torch.ones(length, length).tril().triu(-(window or length) + 1).bool()
        weights = (q @ k.mT / 8**0.5).masked_fill(~near, -torch.inf).softmax(-1)
        torch.testing.assert_close(packed[0, positions], (weights @ v).transpose(0, 1))
        first += length


def test_on_a_cpu_bfloat16_attention_is_that_of_float32():
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 3, True
    shapes = (9, 200, 64), (3, 200, 64), (3, 200, 64)
    tensors = [torch.randn(1, *shape).bfloat16() for shape in shapes]
    gradient = torch.randn(1, 200, 9, 64).bfloat16()

    def results(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors]
        output, _ = packing.attend(module, *inputs, None, sample_lengths=[80, 120])
        output.backward(gradient.to(dtype))
        assert output.dtype == dtype
        return [output.detach(), *(tensor.grad for tensor in inputs)]

    for coarse, exact in zip(results(torch.bfloat16), results(torch.float32), strict=True):
        assert torch.equal(coarse, exact.bfloat16())


def test_no_packed_sample_predicts_the_first_token_of_the_next():
    samples = [
        TrainingSample([5, 6, 7], [5, 6, 7]),
        TrainingSample([8, 9], [8, 9], bad_images=["x"]),
    ]
    row = collate(samples, pad_token_id=0, packed=True)
    padded = collate(samples, pad_token_id=0)
    assert row.input_ids.tolist() == [[5, 6, 7, 8, 9]] and row.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert row.labels.tolist() == [[-100, 6, 7, -100, 9]] and row.sample_lengths == [3, 2]
    assert loss.num_supervised(row) == loss.num_supervised(padded) == 3
    assert row.bad_images == padded.bad_images == ["x"]
