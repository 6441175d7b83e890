"""FLOPs of training, from the shapes of an LVLM and the workload of a step (no torch).

By default these are model FLOPs, as MFU counts them (PaLM, appendix B): without padding or recomputation, with the
language head at supervised positions only, so they are the same for every recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from vrx.config.schema import LoraConfig
from vrx.models.native_facts import Counts


@dataclass(frozen=True)
class Workload:
    """What a step works on: tokens, the sum of the samples' squared lengths, supervised tokens, images."""

    tokens: float
    squared_lengths: float
    supervised_tokens: float
    images: float


def step_flops(
    workload: Workload, shape: Counts, *, num_layers: int, lora: LoraConfig, recompute: bool = False
) -> float:
    """FLOPs of forward and backward passes with LoRA on `num_layers` decoder layers.

    Per token: 2 + 2 for each frozen decoder weight, 2 + 4 for each LoRA weight, causal attention at half the square.
    The vision tower runs forward only, the projector forward and backward. `recompute` adds the second forward pass
    of every decoder layer (full activation checkpointing).
    """
    backbone, tower, again = shape.backbone, shape.tower, int(recompute)
    layer_passes, attention_passes = 2 + again, 3 + again  # in units of a forward pass
    layer = 2 * layer_passes * backbone.layer_parameters * workload.tokens
    attention = 2 * attention_passes * backbone.query * workload.squared_lengths
    adapters = 2 * attention_passes * num_layers * backbone.lora_parameters(lora) * workload.tokens
    head = 4 * backbone.vocabulary * backbone.hidden * workload.supervised_tokens
    image = tower.num_patches * (2 * tower.parameters + 6 * shape.projector_parameters)
    return backbone.num_layers * (layer + attention) + adapters + head + workload.images * image
