"""What each layer of the embedded backbone does, measured on its own text: `python -m vrx.tiny.build --report`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from tqdm import tqdm
from transformers import LlamaForCausalLM

from vrx.tiny.backbone import PHASES, supervised_loss
from vrx.tiny.text import Encode

WINDOW = 4  # neighbouring layers that are left out together
MIN_INFLUENCE = 0.002
MIN_WINDOW_COST = 0.05  # nats per token of the answers
MIN_SINGLE_COST = 0.005


@dataclass(frozen=True)
class LayerReport:
    """Measurements on answers of the backbone's text; costs are increases of the loss in nats per token.

    loss: with all layers. influence: block influence of each layer, the mean of 1 - cos(input, output) over tokens.
    single_cost: of leaving out each layer. window_cost: of leaving out each `WINDOW` neighbours, from the first on.
    """

    loss: float
    influence: list[float]
    single_cost: list[float]
    window_cost: list[float]

    def criteria(self) -> dict[str, bool]:
        """Whether the layers work, by rules that were fixed before any selector was compared."""
        half = len(self.influence) / 2
        return {
            f"block influence is at least {MIN_INFLUENCE} in all layers but one": sum(
                value < MIN_INFLUENCE for value in self.influence
            )
            <= 1,
            f"leaving out any {WINDOW} neighbours costs at least {MIN_WINDOW_COST} nats": min(self.window_cost)
            >= MIN_WINDOW_COST,
            f"leaving out a single one costs at least {MIN_SINGLE_COST} nats in half of the layers": sum(
                value >= MIN_SINGLE_COST for value in self.single_cost
            )
            >= half,
        }

    def __str__(self) -> str:
        rows = [f"loss of the answers: {self.loss:.4f} nats", "layer  influence  left out  left out with the next 3"]
        for layer, (influence, cost) in enumerate(zip(self.influence, self.single_cost, strict=True)):
            window = f"{self.window_cost[layer]:+.4f}" if layer < len(self.window_cost) else ""
            rows.append(f"{layer:5}  {influence:9.4f}  {cost:+8.4f}  {window}")
        rows += [f"{'yes' if holds else 'NO':3}  {text}" for text, holds in self.criteria().items()]
        return "\n".join(rows)


@torch.no_grad()
def measure(model: LlamaForCausalLM, encode: Encode, *, num_batches: int = 4, seed: int = 1234) -> LayerReport:
    """Measure the layers on fresh text such as the last phase of the pre-training had."""
    rng = random.Random(seed)
    phase = PHASES[-1]
    batches = [phase.batch(rng, encode, step=phase.first_steps, batch_size=32) for _ in range(num_batches)]
    states = [_hidden_states(model, ids) for ids, _ in batches]
    num_layers = model.config.num_hidden_layers
    windows = [range(first, first + WINDOW) for first in range(num_layers - WINDOW + 1)]
    bar = tqdm(total=2 + num_layers + len(windows), desc="leaving out layers")

    def loss(left_out: range = range(0)) -> float:
        """The loss without these layers; what the layers before them compute does not change, so they do not run."""
        bar.update()
        with without_layers(model, range(left_out.stop)):
            losses = [
                supervised_loss(
                    model,
                    model.model(inputs_embeds=inputs[left_out.start], use_cache=False).last_hidden_state,
                    labels,
                )
                for inputs, (_, labels) in zip(states, batches, strict=True)
            ]
        return sum(each.item() for each in losses) / num_batches

    whole = loss()
    report = LayerReport(
        loss=whole,
        influence=_block_influence(states[0], batches[0][1]),
        single_cost=[loss(range(layer, layer + 1)) - whole for layer in range(num_layers)],
        window_cost=[loss(window) - whole for window in windows],
    )
    bar.close()
    return report


@contextmanager
def without_layers(model: LlamaForCausalLM, left_out: range) -> Iterator[None]:
    """Leave decoder layers out inside the block."""
    layers = model.model.layers
    model.model.layers = nn.ModuleList(layer for number, layer in enumerate(layers) if number not in left_out)
    kept, model.config.num_hidden_layers = model.config.num_hidden_layers, len(model.model.layers)
    try:
        yield
    finally:
        model.model.layers, model.config.num_hidden_layers = layers, kept


def _hidden_states(model: LlamaForCausalLM, ids: torch.Tensor) -> list[torch.Tensor]:
    """The input of each layer, then the output of the last one, without the final norm; (batch, length, width)."""
    states: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        states.extend((output,) if states else (inputs[0], output))

    hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
    model.model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return states


def _block_influence(states: list[torch.Tensor], labels: torch.Tensor) -> list[float]:
    seen = labels.ne(-100).flip(1).cumsum(1).flip(1) > 0  # up to the last answer; padding follows
    return [
        (1 - nn.functional.cosine_similarity(before[seen], after[seen], dim=-1)).mean().item()
        for before, after in pairwise(states)
    ]
