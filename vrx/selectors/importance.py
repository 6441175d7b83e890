"""Importance scores of decoder layers: the paper's (section 4.1, appendix A) and other readings of its text.

Activation scores are functions of one layer's tensors and return one value per sample, so that one layer at a time is
in memory; `RunningMean` averages over samples. Weight scores are functions of the `TensorDelta` of each tensor of a
layer. A higher score means a more important layer; every sum is taken in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vrx.config.errors import UserError

CHUNK_ELEMENTS = 2**22  # elements that a chunked computation holds in memory at a time


def block_influence(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """1 - cosine of a token's state before and after the layer, mean over tokens: (batch,).

    before, after: (batch, length, hidden), the layer's input and output; real, image: (batch, length) bool, True for
    tokens that are not padding and for image tokens (which count as any other here). Appendix A, "Block Influence";
    section 4.1 (3). The paper's mean is over tokens and samples at once; here every sample has the same weight, as in
    the released code. A zero state has no direction and is left out.
    """
    return _mean_over_tokens(_cosine_distance(before, after), _directed(before, after) & real)


def multimodal_block_influence(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """Block influence of the image tokens and of the text tokens, averaged half and half: (batch,).

    Shapes as for `block_influence`. Appendix A, "Multimodal BI Score"; section 4.1 (4). Text tokens are all real
    tokens but image tokens; the released code cuts at fixed positions instead, which are off by a few tokens.
    """
    distance, counted = _cosine_distance(before, after), _directed(before, after) & real
    return (_mean_over_tokens(distance, counted & image) + _mean_over_tokens(distance, counted & ~image)) / 2


def angular_distance_inputs(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """Angle between the last token's states before and after the layer, over pi: (batch,), 0 to 1.

    Shapes as for `block_influence`. Section 4.1 (5), "between consecutive layer inputs", after Gromov et al. (2024),
    who look at the last token alone; appendix A takes weights instead, see `angular_distance_weights`. The input
    of the layer after the last is taken to be the last layer's output.
    """
    last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).argmax(1)
    rows = torch.arange(len(real), device=real.device)
    return _angle(before[rows, last], after[rows, last]).double()


def angular_distance_inputs_all_tokens(before: Tensor, after: Tensor, *, real: Tensor, image: Tensor) -> Tensor:
    """Like `angular_distance_inputs`, averaged over all tokens as in the paper's block influence: (batch,)."""
    return _mean_over_tokens(_angle(before, after), _directed(before, after) & real)


def attention_received(
    queries: Tensor,
    keys: Tensor,
    *,
    image: Tensor,
    real: Tensor,
    scaling: float,
    mask: Tensor | None = None,
    cap: float | None = None,
) -> Tensor:
    """Attention that image tokens receive from real tokens, summed over heads, queries, image tokens: (batch,) fp64.

    queries: (batch, heads, length, head size), keys: (batch, key heads, length, head size), both after RoPE, one key
    head serving heads / key heads queries; image, real: (batch, length) bool; mask: (batch, 1, length, length), bool
    (True is visible) or additive, None for causal; cap: that a tanh bends scores to, as in Gemma 2.
    """
    batch, heads, length, _ = queries.shape
    grouped = queries.unflatten(1, (keys.shape[1], -1))  # (batch, key heads, group, length, head size)
    keys = keys.float().unsqueeze(2).transpose(-1, -2)  # (batch, key heads, 1, head size, length)
    step = max(1, CHUNK_ELEMENTS // (batch * heads * length))
    positions = torch.arange(length, device=queries.device)
    received = torch.zeros(batch, dtype=torch.float64, device=queries.device)
    for first in range(0, length, step):
        part = slice(first, min(first + step, length))
        weights = (grouped[:, :, :, part].float() @ keys) * scaling  # (batch, key heads, group, part, length)
        weights = weights if cap is None else cap * (weights / cap).tanh()
        visible = (positions[part, None] >= positions)[None, None] if mask is None else mask[:, :, part]
        if visible.dtype == torch.bool:
            weights = weights.masked_fill(~visible.unsqueeze(2), torch.finfo(weights.dtype).min)
        else:
            weights = weights + visible.unsqueeze(2)
        to_image = (weights.softmax(-1) * image[:, None, None, None]).sum(-1)  # (batch, key heads, group, part)
        received += to_image.masked_fill(~real[:, None, None, part], 0).double().sum((1, 2, 3))
    return received


def image_attention(received: Tensor, *, image: Tensor, real: Tensor, num_heads: int) -> Tensor:
    """Attention that one image token receives from all tokens, mean over image tokens and heads: (batch,).

    received: from `attention_received`. Appendix A, "Image Attention Score"; section 4.1 (1). It grows with the
    number of tokens after the image, so samples of different length do not have the same weight.
    """
    return received / (image.sum(1) * num_heads)


def image_attention_share(received: Tensor, *, image: Tensor, real: Tensor, num_heads: int) -> Tensor:
    """Share of a token's attention that goes to image tokens, mean over tokens and heads: (batch,), 0 to 1.

    The same sum as `image_attention` over another count: within a sample both rank the layers equally.
    """
    return received / (real.sum(1) * num_heads)


@dataclass(frozen=True)
class TensorDelta:
    """The difference of a tensor between LVLM and backbone, as fp64 sums over its elements."""

    ratios: float  # sum of |tuned - backbone| / |backbone| over elements that are not 0 in the backbone
    num_ratios: int
    moved: float  # sum of (tuned - backbone) ** 2
    tuned: float  # sum of tuned ** 2
    backbone: float  # sum of backbone ** 2


def tensor_delta(tuned: Tensor, backbone: Tensor) -> TensorDelta:
    """Compare a tensor of the LVLM with the same tensor of its backbone, CHUNK_ELEMENTS at a time."""
    assert tuned.shape == backbone.shape
    sums = torch.zeros(5, dtype=torch.float64)
    for new, old in zip(
        tuned.reshape(-1).split(CHUNK_ELEMENTS), backbone.reshape(-1).split(CHUNK_ELEMENTS), strict=True
    ):
        new, old = new.double(), old.double()
        moved, divisible = new - old, old != 0
        ratios = (moved / torch.where(divisible, old, 1.0)).abs() * divisible
        sums += torch.stack(
            [ratios.sum(), divisible.sum(), moved.square().sum(), new.square().sum(), old.square().sum()]
        ).cpu()
    ratios_sum, num_ratios, moved_sum, tuned_sum, backbone_sum = sums.tolist()
    return TensorDelta(ratios_sum, int(num_ratios), moved_sum, tuned_sum, backbone_sum)


def parameter_change(deltas: Sequence[TensorDelta]) -> float:
    """Mean over a layer's parameters of |theta' - theta| / |theta|.

    Appendix A, "Parameter Change Ratio"; section 4.1 (2). A parameter that is 0 in the backbone has no ratio and is
    left out. Weights near 0 dominate it: for normally distributed weights the expectation is infinite.
    """
    return _divide(sum(delta.ratios for delta in deltas), sum(delta.num_ratios for delta in deltas))


def parameter_change_tensors(deltas: Sequence[TensorDelta]) -> float:
    """Mean over a layer's tensors of |theta' - theta| / |theta| in L2 norms.

    The released code's reading of appendix A; that code sums instead of averaging, takes only the projections, and
    divides by the LVLM's norm. A tensor that is 0 in the backbone is left out.
    """
    ratios = [math.sqrt(delta.moved / delta.backbone) for delta in deltas if delta.backbone]
    return _divide(sum(ratios), len(ratios))


def parameter_change_norms(deltas: Sequence[TensorDelta]) -> float:
    """|theta' - theta| / |theta| in L2 norms, all of a layer's parameters as one vector (one reading of appendix A)."""
    layer = _sum_deltas(deltas)
    return math.sqrt(_divide(layer.moved, layer.backbone))


def angular_distance_weights(deltas: Sequence[TensorDelta]) -> float:
    """Angle between LVLM and backbone over pi, each tensor a vector, mean over a layer's tensors: 0 to 1.

    Appendix A, "Angular Distance" (section 4.1 (5) speaks of layer inputs, see `angular_distance_inputs`). The released
    code sums over the projections instead. A tensor that is 0 has no direction and is left out.
    """
    angles = [_delta_angle(delta) for delta in deltas if delta.tuned and delta.backbone]
    return _divide(sum(angles), len(angles))


def angular_distance_weights_whole(deltas: Sequence[TensorDelta]) -> float:
    """Like `angular_distance_weights`, with all of a layer's parameters as one vector."""
    return _delta_angle(_sum_deltas(deltas))


class RunningMean:
    """Mean score of each layer over samples, in memory that does not grow with them.

    The sums of several processes are combined by adding `total` and `num_samples`.
    """

    def __init__(self, num_layers: int) -> None:
        self.total, self.num_samples = torch.zeros(num_layers, dtype=torch.float64), 0

    def add(self, values: Tensor) -> None:
        """values: (samples, layers)."""
        self.total += values.double().sum(0).cpu()
        self.num_samples += len(values)

    def scores(self, *, without: Collection[int] = ()) -> list[float | None]:
        """One score per layer, None for the layers `without` one; `UserError` names layers without a finite score."""
        if not self.num_samples:
            raise UserError("no samples were scored")
        means = (self.total / self.num_samples).tolist()
        finite = require_finite([0.0 if layer in without else mean for layer, mean in enumerate(means)])
        return [None if layer in without else mean for layer, mean in enumerate(finite)]


def require_finite(scores: Sequence[float]) -> list[float]:
    """The scores; `UserError` names layers whose score is NaN or infinite."""
    bad = [f"{layer} ({score})" for layer, score in enumerate(scores) if not math.isfinite(score)]
    if bad:
        raise UserError(f"layers without a finite score: {', '.join(bad)}")
    return list(scores)


def _directed(before: Tensor, after: Tensor) -> Tensor:
    """True for tokens whose two states are not zero; NaN counts as not zero, so that it is not hidden."""
    return before.any(-1) & after.any(-1)


def _unit(states: Tensor) -> Tensor:
    states = states if states.dtype == torch.float64 else states.float()
    return states / torch.linalg.vector_norm(states, dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)


def _cosine_distance(before: Tensor, after: Tensor) -> Tensor:
    """1 - cos as |u - v|^2 / 2 of the unit vectors: exactly 0 for equal vectors, without cancellation near 0."""
    return (_unit(before) - _unit(after)).square().sum(-1) / 2


def _angle(before: Tensor, after: Tensor) -> Tensor:
    """Angle over pi as 2 atan2(|u - v|, |u + v|) of the unit vectors: arccos is inaccurate near 0."""
    u, v, norm = _unit(before), _unit(after), torch.linalg.vector_norm
    return 2 / math.pi * torch.atan2(norm(u - v, dim=-1), norm(u + v, dim=-1))


def _delta_angle(delta: TensorDelta) -> float:
    tuned, backbone = math.sqrt(delta.tuned), math.sqrt(delta.backbone)
    squared_distance = _divide(delta.moved - (tuned - backbone) ** 2, tuned * backbone)  # |u - v|^2, 0 to 4
    squared_distance = min(max(squared_distance, 0.0), 4.0) if math.isfinite(squared_distance) else math.nan
    return 2 / math.pi * math.atan2(math.sqrt(squared_distance), math.sqrt(4 - squared_distance))


def _mean_over_tokens(values: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, values, 0).double().sum(1) / counted.sum(1)


def _sum_deltas(deltas: Sequence[TensorDelta]) -> TensorDelta:
    sums = [sum(parts) for parts in zip(*((delta.moved, delta.tuned, delta.backbone) for delta in deltas), strict=True)]
    return TensorDelta(0.0, 0, *(sums or (0.0, 0.0, 0.0)))


def _divide(value: float, number: float) -> float:
    return value / number if number else math.nan
