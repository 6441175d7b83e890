"""Packing: samples form one row without padding, in which each token attends to its own sample only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vrx.models.lvlm import decoder

ATTENTION = "packed"  # name of the implementation in transformers' registry


def use(lvlm: PreTrainedModel) -> None:
    """Make the decoder attend within samples; its forward pass then takes `sample_lengths`, which sum to the row's."""
    AttentionInterface.register(ATTENTION, attend)
    decoder(lvlm).set_attn_implementation(ATTENTION)


@torch.compiler.disable  # lengths differ from step to step, and the kernel is fused already
def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sample_lengths: Sequence[int],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention within each sample, (1, length, heads, width), by torch's fused kernels.

    query: (1, heads, length, width); key and value the same with as many heads or fewer. A sliding window (Phi-3)
    needs a mask only for samples longer than the window.

    A CPU attends in float32: torch's kernel for bfloat16 there takes 1.5 times as long in the backward pass, and its
    gradients have twice the error.
    """
    dtype = query.dtype
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()

    def attend_equal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """For samples of one length: (samples, heads, length, width) each, gives (tokens, heads, width)."""
        length, mask = query.shape[2], None
        if sliding_window is not None and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device)
            mask = mask.tril().triu(1 - sliding_window)[None, None]
        sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
        output, _ = sdpa(module, query, key, value, mask, scaling=scaling, is_causal=mask is None)
        return output.flatten(0, 1).to(dtype)

    rows, first = (query, key, value), sample_lengths[0]
    if all(length == first for length in sample_lengths):  # in one call, without a copy
        query, key, value = (row[0].unflatten(1, (-1, first)).transpose(0, 1) for row in rows)
        return attend_equal(query, key, value)[None], None
    samples = zip(*(row.split(list(sample_lengths), 2) for row in rows), strict=True)
    return torch.cat([attend_equal(*sample) for sample in samples])[None], None
