"""A projector that starts from whitened features, so that it learns from few pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vrx.config.schema import ModelConfig
from vrx.launch.devices import device
from vrx.models.assemble import load_vision_tower

EPSILON = 0.01  # of the mean variance, added to all variances


@torch.no_grad()
def whiten(
    state: dict[str, Tensor], model: ModelConfig, batches: Iterable[Tensor], *, dtype: torch.dtype
) -> dict[str, Tensor]:
    """A projector's tensors with its first layer on whitened features: mean 0, covariance about the identity.

    W x + b becomes W S (x - mean) + b, where S is the inverse root (ZCA) of the covariance of the tower's features with
    EPSILON of the mean variance added. A few directions of the features hold most of their variance; what tells things
    apart is in the others, which AdamW reaches only after many more steps.

    batches: pictures, (images, 3, height, width); without any, the tensors are returned as they are. The tower is
    loaded whole for this alone, so that every rank has the same numbers under ZeRO-3, too.
    """
    tower: Any = None
    moments = (0, torch.zeros(1), torch.zeros(1, 1))
    for pictures in batches:
        if tower is None:
            tower = load_vision_tower(model, dtype).eval().to(device())  # type: ignore[arg-type]
        states = tower(pictures.to(device(), dtype), output_hidden_states=True).hidden_states
        features = states[model.vision_feature_layer]
        if model.vision_feature_select_strategy == "default":
            features = features[:, 1:]  # without the class token
        moments = _added(moments, features)
    number, total, products = moments
    if not number:
        return state
    mean = total / number
    variances, directions = torch.linalg.eigh(products / number - mean[:, None] * mean)
    root = directions @ torch.diag((variances.clamp(min=0) + EPSILON * variances.mean()).rsqrt()) @ directions.T
    weight = state["linear_1.weight"].double() @ root
    bias = state["linear_1.bias"].double() - weight @ mean
    return {**state, "linear_1.weight": weight.float(), "linear_1.bias": bias.float()}


def _added(moments: tuple[int, Tensor, Tensor], features: Tensor) -> tuple[int, Tensor, Tensor]:
    """The number of patches, their sum and the sum of their outer products, fp64, with those of some pictures."""
    number, total, products = moments
    patches = features.flatten(0, 1).cpu().double()
    return number + len(patches), total + patches.sum(0), products + patches.T @ patches
