"""Whitened features for the training of a projector, so that it learns from few pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vrx.config.schema import ModelConfig
from vrx.launch.devices import device
from vrx.models.assemble import load_vision_tower

EPSILON = 0.01  # of the mean variance, added to all variances


@dataclass(frozen=True, eq=False)
class Whitening:
    """Features x become (x - mean) @ matrix: of mean 0, and of a covariance about the identity.

    A few directions of a tower's features hold most of their variance; what tells things apart is in the others, which
    AdamW reaches only after many more steps. mean: (width,); matrix: (width, width), symmetric; fp64 on the CPU.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Features, (..., width), whitened in fp32; of their own dtype and device."""
        mean, matrix = _in_fp32(self, features.device)
        return ((features.float() - mean) @ matrix).to(features.dtype)

    def folded(self, state: dict[str, Tensor], *, prefix: str = "") -> dict[str, Tensor]:
        """A projector's tensors that take the features as they are, from those that take them whitened; same dtypes.

        prefix: of the names `linear_1.weight` and `linear_1.bias`.
        """
        weight, bias = state[f"{prefix}linear_1.weight"], state[f"{prefix}linear_1.bias"]
        folded = weight.double().cpu() @ self.matrix
        moved = bias.double().cpu() - folded @ self.mean
        return {**state, f"{prefix}linear_1.weight": folded.to(weight), f"{prefix}linear_1.bias": moved.to(bias)}


@functools.lru_cache(maxsize=1)
def _in_fp32(whitening: Whitening, where: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and matrix where the features are, copied there once for all steps."""
    return whitening.mean.to(where, torch.float32), whitening.matrix.to(where, torch.float32)


@torch.no_grad()
def measure(model: ModelConfig, batches: Iterable[Tensor], *, dtype: torch.dtype) -> Whitening | None:
    """The whitening (ZCA) of what the tower makes of pictures, (images, 3, height, width); None without pictures.

    The tower is loaded whole for this alone, so that every rank has the same numbers under ZeRO-3, too.
    """
    tower: Any = None
    moments = (0, torch.zeros(1), torch.zeros(1, 1))
    for pictures in batches:
        if tower is None:
            tower = load_vision_tower(model, dtype).eval().to(device())  # type: ignore[arg-type]
        features = tower_features(tower, pictures.to(device(), dtype), model)
        moments = _added(moments, features)
    number, total, products = moments
    if not number:
        return None
    mean = total / number
    variances, directions = torch.linalg.eigh(products / number - mean[:, None] * mean)
    scales = (variances.clamp(min=0) + EPSILON * variances.mean()).rsqrt()
    return Whitening(mean, directions @ torch.diag(scales) @ directions.T)


def tower_features(tower: Any, pictures: Tensor, model: Any) -> Tensor:
    """The features that the projector takes, (images, patches, width).

    model: with the fields `vision_feature_layer` and `vision_feature_select_strategy`, as `LlavaConfig` has them, too.
    """
    features = tower(pictures, output_hidden_states=True).hidden_states[model.vision_feature_layer]
    return features[:, 1:] if model.vision_feature_select_strategy == "default" else features  # without the class token


def _added(moments: tuple[int, Tensor, Tensor], features: Tensor) -> tuple[int, Tensor, Tensor]:
    """The number of patches, their sum and the sum of their outer products, fp64, with those of some pictures."""
    number, total, products = moments
    patches = features.flatten(0, 1).cpu().double()
    return number + len(patches), total + patches.sum(0), products + patches.T @ patches
