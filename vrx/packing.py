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
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    found = []
    for parts in zip(*(whole.split(list(sample_lengths), 2) for whole in (query, key, value)), strict=True):
        length = parts[0].shape[2]
        mask = None
        if sliding_window is not None and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device)
            mask = mask.tril().triu(1 - sliding_window)[None, None]
        found.append(plain(module, *parts, mask, scaling=scaling, is_causal=mask is None)[0])
    return torch.cat(found, 1), None
