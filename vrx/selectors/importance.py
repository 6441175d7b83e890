"""How important a decoder layer is: the paper's scores (section 4.1, appendix A) and the other readings of its text.

Scores of activations are functions of one layer's tensors that give one value per sample: a caller holds one layer at a
time, and `RunningMean` adds the samples up. Scores of weights are functions of the `TensorDelta` of each
tensor of a layer. A higher score means a more important layer; every sum is taken in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vrx.config.errors import UserError

CHUNK_ELEMENTS = 2**22  # what a chunked computation holds at a time, in elements


def block_influence(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """1 - cosine of a token's state before and after the layer, mean over tokens: (batch,).

    before, after: (batch, length, hidden), the layer's input and output; real, image: (batch, length) bool, what is not
    padding and what is an image token (here they count as any other). Appendix A, "Block Influence"; section 4.1 (3).
    The paper's mean is over tokens and samples at once; here each sample counts the same, as in the released code. A
    zero state has no direction and is left out.
    """
    return _mean_over_tokens(_cosine_distance(before, after), _directed(before, after) & real)


def multimodal_block_influence(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """Block influence of the image tokens and of the text tokens, averaged half and half: (batch,).

    Shapes as for `block_influence`. Appendix A, "Multimodal BI Score"; section 4.1 (4). Text is every real token that
    is no image token; the released code cuts at fixed positions instead, which are off by a few tokens.
    """
    distance, counted = _cosine_distance(before, after), _directed(before, after) & real
    return (_mean_over_tokens(distance, counted & image) + _mean_over_tokens(distance, counted & ~image)) / 2


def angular_distance_inputs(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """Angle between the last token's states before and after the layer, over pi: (batch,), 0 to 1.

    Shapes as for `block_influence`. Section 4.1 (5), "between consecutive layer inputs", after Gromov et al. (2024),
    who look at the last token alone; appendix A takes weights instead, see `angular_distance_weights`. What would be
    the input of a layer after the last is the last layer's output.
    """
    last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).argmax(1)
    rows = torch.arange(len(real), device=real.device)
    return _angle(before[rows, last], after[rows, last]).double()


def angular_distance_inputs_all_tokens(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """As `angular_distance_inputs`, but the mean over all tokens, as in the paper's block influence: (batch,)."""
    return _mean_over_tokens(_angle(before, after), _directed(before, after) & real)


def attention_received(
    queries: Tensor, keys: Tensor, *, image: Tensor, real: Tensor, scaling: float, mask: Tensor | None = None
) -> Tensor:
    """Attention that image tokens get from all real tokens, summed over heads, queries and image tokens: (batch,) fp64.

    queries: (batch, heads, length, head size), keys: (batch, key heads, length, head size), both after RoPE, one key
    head serving heads / key heads queries; image, real: (batch, length) bool; mask: (batch, 1, length, length), either
    bool (True is seen) or what is added, None for causal. Attention weights exist for a few queries at a time only.
    """
    batch, heads, length, _ = queries.shape
    grouped = queries.unflatten(1, (keys.shape[1], -1))  # (batch, key heads, group, length, head size)
    keys = keys.float().unsqueeze(2).transpose(-1, -2)  # (batch, key heads, 1, head size, length)
    step = max(1, CHUNK_ELEMENTS // (batch * heads * length))
    places = torch.arange(length, device=queries.device)
    received = torch.zeros(batch, dtype=torch.float64, device=queries.device)
    for first in range(0, length, step):
        part = slice(first, min(first + step, length))
        weights = (grouped[:, :, :, part].float() @ keys) * scaling  # (batch, key heads, group, part, length)
        seen = (places[part, None] >= places)[None, None] if mask is None else mask[:, :, part]
        if seen.dtype == torch.bool:
            weights = weights.masked_fill(~seen.unsqueeze(2), torch.finfo(weights.dtype).min)
        else:
            weights = weights + seen.unsqueeze(2)
        to_image = (weights.softmax(-1) * image[:, None, None, None]).sum(-1)  # (batch, key heads, group, part)
        received += to_image.masked_fill(~real[:, None, None, part], 0).double().sum((1, 2, 3))
    return received


def image_attention(received: Tensor, *, image: Tensor, real: Tensor, num_heads: int) -> Tensor:
    """Attention one image token gets from all tokens together, mean over image tokens and heads: (batch,).

    received: of `attention_received`. Appendix A, "Image Attention Score"; section 4.1 (1). It grows with the number of
    tokens that follow the image, so samples of different length do not weigh the same.
    """
    return received / (image.sum(1) * num_heads)


def image_attention_share(received: Tensor, *, image: Tensor, real: Tensor, num_heads: int) -> Tensor:
    """Share of a token's attention that goes to image tokens, mean over tokens and heads: (batch,), 0 to 1.

    The same sum as `image_attention` over another number: within a sample it ranks the layers alike.
    """
    return received / (real.sum(1) * num_heads)


@dataclass(frozen=True)
class TensorDelta:
    """What separates a tensor of the LVLM from the backbone's, as fp64 sums over its elements."""

    ratios: float  # sum of |tuned - backbone| / |backbone| where the backbone is not 0
    num_ratios: int
    moved: float  # sum of (tuned - backbone) ** 2
    tuned: float  # sum of tuned ** 2
    backbone: float  # sum of backbone ** 2


def tensor_delta(tuned: Tensor, backbone: Tensor) -> TensorDelta:
    """Add up one tensor of the LVLM against the same tensor of its backbone, a few million elements at a time."""
    assert tuned.shape == backbone.shape
    found = torch.zeros(5, dtype=torch.float64)
    for new, old in zip(
        tuned.reshape(-1).split(CHUNK_ELEMENTS), backbone.reshape(-1).split(CHUNK_ELEMENTS), strict=True
    ):
        new, old = new.double(), old.double()
        moved, divisible = new - old, old != 0
        ratios = (moved / torch.where(divisible, old, 1.0)).abs() * divisible
        found += torch.stack(
            [ratios.sum(), divisible.sum(), moved.square().sum(), new.square().sum(), old.square().sum()]
        ).cpu()
    ratios_sum, num_ratios, moved_sum, tuned_sum, backbone_sum = found.tolist()
    return TensorDelta(ratios_sum, int(num_ratios), moved_sum, tuned_sum, backbone_sum)


def parameter_change(changes: Sequence[TensorDelta]) -> float:
    """Mean over a layer's parameters of |theta' - theta| / |theta|.

    Appendix A, "Parameter Change Ratio"; section 4.1 (2). A parameter that is 0 in the backbone has no ratio and is
    left out. Weights near 0 dominate it: of normally distributed ones the expectation is infinite.
    """
    return _divided(sum(change.ratios for change in changes), sum(change.num_ratios for change in changes))


def parameter_change_tensors(changes: Sequence[TensorDelta]) -> float:
    """Mean over a layer's tensors of |theta' - theta| / |theta| in L2 norms.

    The released code's reading of appendix A, but that code adds up instead of averaging, takes the projections alone,
    and divides by the LVLM's norm. A tensor that is 0 in the backbone is left out.
    """
    ratios = [math.sqrt(change.moved / change.backbone) for change in changes if change.backbone]
    return _divided(sum(ratios), len(ratios))


def parameter_change_norms(changes: Sequence[TensorDelta]) -> float:
    """|theta' - theta| / |theta| in L2 norms with all of a layer's parameters as one vector (appendix A, read so)."""
    whole = _together(changes)
    return math.sqrt(_divided(whole.moved, whole.backbone))


def angular_distance_weights(changes: Sequence[TensorDelta]) -> float:
    """Angle between LVLM and backbone over pi, each tensor a vector, mean over a layer's tensors: 0 to 1.

    Appendix A, "Angular Distance" (section 4.1 (5) speaks of layer inputs, see `angular_distance_inputs`). The released
    code adds up the projections instead. A tensor that is 0 has no direction and is left out.
    """
    angles = [_angle_of(change) for change in changes if change.tuned and change.backbone]
    return _divided(sum(angles), len(angles))


def angular_distance_weights_whole(changes: Sequence[TensorDelta]) -> float:
    """As `angular_distance_weights`, with all of a layer's parameters as one vector."""
    return _angle_of(_together(changes))


class RunningMean:
    """Mean over samples of each layer's score; its size does not depend on the number of samples.

    Sums of several processes are joined by adding their `total` and `num_samples`.
    """

    def __init__(self, num_layers: int) -> None:
        self.total, self.num_samples = torch.zeros(num_layers, dtype=torch.float64), 0

    def add(self, values: Tensor) -> None:
        """values: (samples, layers)."""
        self.total += values.double().sum(0).cpu()
        self.num_samples += len(values)

    def scores(self) -> list[float]:
        """One score per layer; a layer whose score is no finite number is refused."""
        if not self.num_samples:
            raise UserError("no samples were scored")
        return require_finite((self.total / self.num_samples).tolist())


def require_finite(scores: Sequence[float]) -> list[float]:
    """The scores, none of them NaN or infinite: those are refused by layer."""
    bad = [f"{layer} ({score})" for layer, score in enumerate(scores) if not math.isfinite(score)]
    if bad:
        raise UserError(f"layers without a finite score: {', '.join(bad)}")
    return list(scores)


def _directed(before: Tensor, after: Tensor) -> Tensor:
    """Where both states have a direction; NaN has one here, so that it shows."""
    return before.any(-1) & after.any(-1)


def _unit(states: Tensor) -> Tensor:
    states = states if states.dtype == torch.float64 else states.float()
    return states / torch.linalg.vector_norm(states, dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)


def _cosine_distance(before: Tensor, after: Tensor) -> Tensor:
    """1 - cos as |u - v|^2 / 2 of the unit vectors: exactly 0 for equal ones, and no cancellation near them."""
    return (_unit(before) - _unit(after)).square().sum(-1) / 2


def _angle(before: Tensor, after: Tensor) -> Tensor:
    """Angle over pi as 2 atan2(|u - v|, |u + v|) of the unit vectors: arccos has no digits left near 0."""
    u, v = _unit(before), _unit(after)
    norm = torch.linalg.vector_norm
    return 2 / math.pi * torch.atan2(norm(u - v, dim=-1), norm(u + v, dim=-1))


def _angle_of(change: TensorDelta) -> float:
    tuned, backbone = math.sqrt(change.tuned), math.sqrt(change.backbone)
    apart = _divided(change.moved - (tuned - backbone) ** 2, tuned * backbone)  # |u - v|^2, 0 to 4
    apart = min(max(apart, 0.0), 4.0) if math.isfinite(apart) else math.nan
    return 2 / math.pi * math.atan2(math.sqrt(apart), math.sqrt(4 - apart))


def _mean_over_tokens(values: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, values, 0).double().sum(1) / counted.sum(1)


def _together(changes: Sequence[TensorDelta]) -> TensorDelta:
    sums = [sum(parts) for parts in zip(*((c.moved, c.tuned, c.backbone) for c in changes), strict=True)]
    return TensorDelta(0.0, 0, *(sums or (0.0, 0.0, 0.0)))


def _divided(value: float, number: float) -> float:
    return value / number if number else math.nan
