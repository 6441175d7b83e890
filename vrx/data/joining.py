"""The form of what a processor gives beside the token ids, and how the samples of a micro-batch are joined.

A sample of the generic path is one `TrainingSample`: `input_ids` and `labels` as lists, and `tensors`, one dictionary
with the processor's other keys. Its tensors have one of three forms, which their name tells:

- along the tokens (TOKEN_KEYS): (length, …), such as `mm_token_type_ids` and `token_type_ids`. In a batch they are
  (batch, length, …), padded with zeros on the side of the ids; in a packed row (1, sum of lengths, …), end to end. A
  sample that lacks a key which another sample has gets zeros.
- of pictures: (pictures, …), (patches, …), or what the model takes as its first dimension, such as `pixel_values`,
  `image_grid_thw`, `image_sizes`. They are put on top of each other in the order of the samples. Where other dimensions
  differ (tiles, height, width), they are padded with zeros at their end, as the processors do. A sample without
  pictures has none of these keys.
- of pictures, in a model that looks them up by sample (Mllama, known by `cross_attention_mask`): (1, pictures, …); a
  sample without pictures gets zeros, because row i belongs to sample i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

CROSS_ATTENTION = "cross_attention_mask"
TOKEN_KEYS = ("mm_token_type_ids", "token_type_ids", CROSS_ATTENTION)


def join_tensors(
    samples: Sequence[Mapping[str, Tensor]], lengths: Sequence[int], *, side: Literal["left", "right"] | None
) -> dict[str, Tensor]:
    """The tensors of a micro-batch from those of its samples, in the form that this module describes.

    lengths: tokens of each sample. side: where shorter samples are padded; None for a packed row.
    """
    keys = list(dict.fromkeys(key for sample in samples for key in sample))
    by_sample = CROSS_ATTENTION in keys
    joined = {}
    for key in keys:
        example = next(sample[key] for sample in samples if key in sample)
        if key in TOKEN_KEYS:
            rows = [
                sample[key] if key in sample else example.new_zeros(length, *(1 for _ in example.shape[1:]))
                for sample, length in zip(samples, lengths, strict=True)
            ]
            joined[key] = _along_tokens(_padded_up(rows), side)
            continue
        absent = [example.new_zeros(1, *(1 for _ in example.shape[1:]))] if by_sample else []
        parts = [part for sample in samples for part in ([sample[key]] if key in sample else absent)]
        joined[key] = torch.cat(_padded_up(parts))
    return joined


def _along_tokens(rows: Sequence[Tensor], side: str | None) -> Tensor:
    """(batch, longest, …) padded on `side`, or (1, sum of lengths, …)."""
    if side is None:
        return torch.cat(list(rows))[None]
    longest = max(len(row) for row in rows)
    beyond = [0, 0] * (rows[0].ndim - 1)
    before = side == "left"
    return torch.stack(
        [pad(row, [*beyond, (longest - len(row)) * before, (longest - len(row)) * (not before)]) for row in rows]
    )


def _padded_up(parts: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors with zeros at the end of each dimension but the first, up to the largest among them."""
    sizes = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
    return [
        pad(part, [end for size, own in zip(sizes[::-1], part.shape[:0:-1], strict=True) for end in (0, size - own)])
        for part in parts
    ]
