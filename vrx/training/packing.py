"""Samples one after the other, without padding: the decoder sees one long row, each token its own sample alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, LlavaForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "packed"  # its name among transformers' implementations of attention


def use(lvlm: LlavaForConditionalGeneration) -> None:
    """Let the decoder attend within samples; its forward pass then takes `sample_lengths`, which sum to the row's."""
    AttentionInterface.register(ATTENTION, attend)
    lvlm.model.language_model.set_attn_implementation(ATTENTION)


@torch.compiler.disable  # lengths differ from step to step, and the kernel is one already
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
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each sample's tokens to its own, (1, length, heads, width), by torch's fused kernels.

    query: (1, heads, length, width); key and value as many or fewer heads. A window (Phi-3's) takes a mask, which only
    a sample longer than it needs.
    """

    def alone(*parts: Tensor) -> Tensor:
        """Of samples of one length: parts (samples, heads, length, width), gives (tokens, heads, width)."""
        length, mask = parts[0].shape[2], None
        if sliding_window is not None and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device)
            mask = mask.tril().triu(1 - sliding_window)[None, None]
        found, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, *parts, mask, scaling=scaling, is_causal=mask is None)
        return found.flatten(0, 1)

    whole, first = (query, key, value), sample_lengths[0]
    if all(length == first for length in sample_lengths):  # at once, and nothing is copied
        return alone(*(rows[0].unflatten(1, (-1, first)).transpose(0, 1) for rows in whole))[None], None
    samples = zip(*(rows.split(list(sample_lengths), 2) for rows in whole), strict=True)
    return torch.cat([alone(*parts) for parts in samples])[None], None
