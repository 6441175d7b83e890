"""From a run to what is trained: the LVLM with its adapters, and the recipe's switches as this machine holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import RunConfig
from vrx.data.batch import MicroBatch
from vrx.data.image_processing import Pixels
from vrx.launch.devices import DTYPES, device
from vrx.launch.logging import log
from vrx.launch.ranks import world_size
from vrx.models import architecture, loading, lora
from vrx.training import activation_checkpointing, cost_model, engine, fast_path, flops, fused_lora
from vrx.training.flops import Workload
from vrx.training.loss import LvlmWithLoss


def decided(run: RunConfig, words: np.ndarray, *, num_steps: int) -> tuple[RunConfig, dict[str, str]]:
    """The run with every switch decided, and why some are off; words: of each sample, (samples,), see `lengths`."""
    shape = architecture.parameter_counts(run.model)
    weight_bytes = total = 0.0
    if shape is not None:
        weight_bytes = shape.parameters * DTYPES[run.train.dtype].itemsize
        of_sample = cost_model.sample_flops(shape, 0, cost_model.lengths_in_tokens(words, run), run)
        total = of_sample * run.train.global_batch_size * num_steps
    wanted, off = fast_path.decide(run.engine, weight_bytes=weight_bytes or None, operations=total)
    for switch, reason in off.items():
        log(f"engine.{switch} is off: {reason}")
    return dataclasses.replace(run, engine=wanted), off


@dataclass
class Prepared:
    """What is trained: the LVLM, the same with adapters as PEFT sees it, the same with its loss."""

    lvlm: LlavaForConditionalGeneration
    tuned: Any
    module: LvlmWithLoss
    trainable: dict[str, nn.Parameter]

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.trainable.values())

    def operations(self, layers: Sequence[int], r: int) -> Callable[[Workload], float]:
        config: Any = self.lvlm.config
        shape = architecture.from_values(config.text_config.to_dict(), config.vision_config.to_dict())
        return lambda load: flops.step_flops(load, shape, num_layers=len(layers), r=r)


def prepare(run: RunConfig, layers: Sequence[int]) -> Prepared:
    """Load the LVLM and put adapters on the layers; what a checkpoint holds may be copied in next."""
    with engine.sharing_weights(run.train, run.engine, enabled=run.model.lvlm is None):
        lvlm = loading.load(run.model, dtype=DTYPES[run.train.dtype])
    return adapted(lvlm, layers, run, Pixels(run.model).blank())


def adapted(
    lvlm: LlavaForConditionalGeneration, layers: Sequence[int], run: RunConfig, blank: torch.Tensor
) -> Prepared:
    tuned = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed)
    if run.engine.fused_lora:
        fused_lora.fuse(lvlm)
    module = LvlmWithLoss(lvlm, blank, run.engine)
    return Prepared(lvlm, tuned, module, lora.trainable_parameters(module))


def finish(prepared: Prepared, run: RunConfig, heaviest: Callable[[], MicroBatch]) -> dict[str, Any]:
    """Choose what is checkpointed and compile the layers, once the engine has the module; tells what was done.

    heaviest: the micro-batch that takes most memory.
    """
    told = dataclasses.asdict(run.engine)
    told["gradient_checkpointing"] = _checkpoint(prepared, run, heaviest)
    if run.engine.compile:
        for layer in loading.decoder_layers(prepared.lvlm):
            layer.compile(dynamic=True)
    return told


def _checkpoint(prepared: Prepared, run: RunConfig, heaviest: Callable[[], MicroBatch]) -> str:
    wanted = run.train.gradient_checkpointing
    is_sharded = run.engine.name == "deepspeed" and run.engine.zero_stage == 3
    if wanted is not None or is_sharded:  # there, memory is short, and a probe that ends early would leave ranks apart
        way = "all" if wanted or wanted is None else "none"
        activation_checkpointing.checkpoint(prepared.lvlm, way)
        return way
    to_come = 12 * prepared.num_trainable  # gradients and optimizer
    inputs = heaviest().to(device()).model_inputs()
    prepared.module.train()
    budget = activation_checkpointing.SHARE * activation_checkpointing.free_bytes() - to_come
    way = activation_checkpointing.least_checkpointing(prepared.lvlm, lambda: prepared.module(**inputs), budget=budget)
    ways = list(activation_checkpointing.MODES)
    if world_size() > 1:  # all ranks alike: what is slow on one is waited for by all
        most = torch.tensor(ways.index(way), device=device())
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        way = ways[int(most)]
        activation_checkpointing.checkpoint(prepared.lvlm, way)
    if way != "none":
        log(f"activation checkpointing of {way} layers: memory has {budget / 1e9:.3g} GB for a micro-batch")
    return way
