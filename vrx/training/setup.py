"""From a run to the module that is trained: the LVLM with adapters and loss, and the switches this machine allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import PreTrainedModel

from vrx.config.schema import LoraConfig, RunConfig
from vrx.data.batch import MicroBatch
from vrx.data.images.processing import Pixels
from vrx.launch.devices import DTYPES, device
from vrx.launch.logging import log
from vrx.launch.ranks import world_size
from vrx.models import architecture, loading, lora, native
from vrx.models.lvlm import decoder_layers, projector
from vrx.models.native_facts import Counts, architecture_of, counts_of
from vrx.models.projector_weights import fresh_projector
from vrx.runs.tuned_checkpoint import tuned_checkpoint
from vrx.training import activation_checkpointing, cost_model, fast_path, flops, fused_lora, whitening
from vrx.training.activation_checkpointing import Mode
from vrx.training.deepspeed_engine import zero3_loading
from vrx.training.flops import Workload
from vrx.training.loss import LvlmWithLoss
from vrx.training.native_loss import NativeLvlmWithLoss
from vrx.training.word_alignment import WordAlignment

BYTES_PER_TRAINABLE = 12  # fp32 gradient and two moments


@dataclass
class TrainableModel:
    """The LVLM, the same as PEFT's model (None without adapters), with its loss, and what is trained."""

    lvlm: PreTrainedModel
    peft_model: Any
    module: LvlmWithLoss | NativeLvlmWithLoss
    trainable: dict[str, nn.Parameter]
    counts: Counts | None = None  # where they are not read off the configuration of a LLaVA model

    @property
    def num_trainable(self) -> int:
        """Trained numbers; under ZeRO-3 a parameter is empty here, and DeepSpeed notes its whole size in `ds_numel`."""
        return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in self.trainable.values())

    def flops_counter(self, *, num_layers: int, lora: LoraConfig) -> Callable[[Workload], float]:
        """The FLOPs of a step as a function of its workload."""
        if self.counts is not None:
            counts = self.counts
            return lambda workload: flops.step_flops(workload, counts, num_layers=num_layers, lora=lora)
        config: Any = self.lvlm.config
        text, vision = config.text_config.to_dict(), config.vision_config.to_dict()
        shape = architecture.counts_from_configs(text, vision, num_patches=config.image_seq_length)
        if isinstance(self.module, WordAlignment):  # which runs tower and projector alone
            return lambda workload: flops.step_flops(Workload(0, 0, 0, workload.images), shape, num_layers=0, lora=lora)
        return lambda workload: flops.step_flops(workload, shape, num_layers=num_layers, lora=lora)


def decide_switches(run: RunConfig, words: np.ndarray, *, num_steps: int) -> tuple[RunConfig, dict[str, str]]:
    """Decide every switch of the engine, and log and give the reason for each that is off.

    words: (samples,), as `instruction_dataset.word_counts` counts them.
    """
    shape = counts_of(run)
    weight_bytes = total_flops = 0.0
    if shape is not None:
        weight_bytes = shape.parameters * DTYPES[run.train.dtype].itemsize
        flops_per_sample = cost_model.sample_flops(shape, 0, cost_model.lengths_in_tokens(words, run), run)
        total_flops = flops_per_sample * run.train.global_batch_size * num_steps
    decided, off = fast_path.decide(
        run.engine, weight_bytes=weight_bytes or None, total_flops=total_flops, use_dora=bool(run.lora.use_dora)
    )
    if decided.packed and not run.model.is_assembled and architecture_of(run.model).packing == "padded":
        decided = dataclasses.replace(decided, packed=None)
        off["packed"] = f"a decoder of {run.model.architecture} mixes the samples of a row"
    for switch, reason in off.items():
        log(f"engine.{switch} is off: {reason}")
    return dataclasses.replace(run, engine=decided), off


def is_sharded(run: RunConfig) -> bool:
    """Whether the ranks share out the weights (ZeRO-3), by the decided switches."""
    return run.engine.name == "deepspeed" and run.engine.zero_stage == 3


def load_trainable(run: RunConfig, layers: Sequence[int]) -> TrainableModel:
    """Load the LVLM and add adapters on the layers; the weights of a checkpoint can be copied in afterwards."""
    if not run.model.is_assembled:
        return _load_native(run, layers)
    with zero3_loading(run.train, run.engine, enabled=run.model.lvlm is None):
        lvlm = loading.load(run.model, dtype=DTYPES[run.train.dtype])
    return add_adapters(lvlm, layers, run, blank=Pixels(run.model).blank())


def _load_native(run: RunConfig, layers: Sequence[int]) -> TrainableModel:
    """The same for a model that is one checkpoint."""
    row = architecture_of(run.model)
    is_whole = not tuned_checkpoint(str(run.model.lvlm))[1]  # an adapter is merged into whole weights
    with zero3_loading(run.train, run.engine, enabled=is_whole):
        lvlm = native.load_native(run.model, dtype=DTYPES[run.train.dtype])
    beside = row.connector if run.train.connector else ()
    peft_model = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed, beside=beside)
    if run.engine.fused_lora:
        fused_lora.fuse(lvlm)
    module = NativeLvlmWithLoss(lvlm, row, run.engine)
    return TrainableModel(lvlm, peft_model, module, lora.trainable_parameters(module), counts_of(run))


def add_adapters(
    lvlm: PreTrainedModel, layers: Sequence[int], run: RunConfig, *, blank: torch.Tensor
) -> TrainableModel:
    """Put LoRA on the layers of a loaded LVLM; blank: (3, H, W), stands for the image in a batch without images."""
    peft_model = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed)
    if run.engine.fused_lora:
        fused_lora.fuse(lvlm)
    module = LvlmWithLoss(lvlm, blank, run.engine)
    return TrainableModel(lvlm, peft_model, module, lora.trainable_parameters(module))


def load_with_fresh_projector(run: RunConfig, batches: Iterable[torch.Tensor] = ()) -> TrainableModel:
    """Load tower and backbone, frozen, and between them a fresh projector of the run's seed, which alone is trained.

    batches: pictures, (images, 3, H, W), over which word alignment whitens what the projector takes; without any it
    takes the features as they are.
    """
    dtype, blank = DTYPES[run.train.dtype], Pixels(run.model).blank()
    with zero3_loading(run.train, run.engine):
        lvlm = loading.load(run.model, dtype=dtype, projector_state=fresh_projector(run.model, seed=run.seed))
    projector(lvlm).requires_grad_(True)
    if run.captions.objective == "word_alignment":
        module = WordAlignment(lvlm, blank, run.engine, whitening.measure(run.model, batches, dtype=dtype))
    else:
        module = LvlmWithLoss(lvlm, blank, run.engine)
    return TrainableModel(lvlm, None, module, lora.trainable_parameters(module))


def checkpoint_and_compile(
    model: TrainableModel, run: RunConfig, largest_batch: Callable[[], MicroBatch]
) -> dict[str, object]:
    """Set activation checkpointing and compile the layers, once the engine holds the module; gives all switches.

    largest_batch: makes the micro-batch that takes the most memory.
    """
    switches = dataclasses.asdict(run.engine)
    switches["gradient_checkpointing"] = str(_set_checkpointing(model, run, largest_batch))
    if run.engine.compile:
        for layer in decoder_layers(model.lvlm):
            layer.compile(dynamic=True)
    return switches


def _set_checkpointing(model: TrainableModel, run: RunConfig, largest_batch: Callable[[], MicroBatch]) -> Mode:
    wanted = run.train.gradient_checkpointing
    if wanted is not None or is_sharded(run):  # which is for little memory; a probe that ends early would split ranks
        mode = Mode.NONE if wanted is False else Mode.FULL
        activation_checkpointing.set_mode(model.lvlm, mode)
        return mode
    reserved = BYTES_PER_TRAINABLE * model.num_trainable
    inputs = largest_batch().to(device()).model_inputs()
    model.module.train()
    budget = activation_checkpointing.MEMORY_SHARE * activation_checkpointing.free_bytes() - reserved
    mode = activation_checkpointing.set_lightest_mode(model.lvlm, lambda: model.module(**inputs), budget=budget)
    if world_size() > 1:  # the same mode on all ranks, because all wait for the slowest
        modes = list(Mode)
        heaviest = torch.tensor(modes.index(mode), device=device())
        dist.all_reduce(heaviest, op=dist.ReduceOp.MAX)
        mode = modes[int(heaviest)]
        activation_checkpointing.set_mode(model.lvlm, mode)
    if mode is not Mode.NONE:
        log(f"activation checkpointing: {mode} ({budget / 1e9:.3g} GB of memory for the activations of a micro-batch)")
    return mode
