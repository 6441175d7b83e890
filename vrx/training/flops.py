"""Floating-point operations that the mathematics of a training step needs, whatever a recipe spends on it.

No padding, no recomputation, the language head at supervised positions only: what the share of a machine's ceiling is
counted by, the same for every recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from vrx.models.architecture import ParameterCounts


@dataclass(frozen=True)
class Workload:
    """What a step works on: tokens, the sum of the samples' squared lengths, supervised tokens, images."""

    tokens: int
    squares: int
    supervised: int
    images: int


def step_flops(load: Workload, shape: ParameterCounts, *, num_layers: int, r: int) -> float:
    """Forward and backward: 2 + 2 a frozen weight, 2 + 4 a trained one, causal attention (4 + 8) x half the square x
    width, the tower forward alone."""
    backbone, tower = shape.backbone, shape.tower
    decoder = backbone.num_layers * (4 * backbone.layer_parameters * load.tokens + 6 * backbone.query * load.squares)
    lora = 6 * num_layers * backbone.lora_parameters(r) * load.tokens
    head = 4 * backbone.vocabulary * backbone.hidden * load.supervised
    image = tower.num_patches * (2 * tower.parameters + 6 * shape.projector_parameters)
    return decoder + lora + head + load.images * image
