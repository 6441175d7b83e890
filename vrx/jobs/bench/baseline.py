"""The baseline of `vrx bench`: transformers' Trainer, PEFT and DeepSpeed ZeRO-3, the stack most people train with.

It works like LLaVA's and the authors' scripts: padded batches, activation checkpointing, the language-model head at
every position, one adapter per module. The LVLM, the adapters and the samples of each step are those of a vrx run.
"""

from __future__ import annotations

import tempfile
import time
from typing import TypedDict

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments

from vrx.config.schema import RunConfig
from vrx.data.batch import TrainingSample, collate
from vrx.data.instructions.dataset import TrainingDataset
from vrx.data.sampler import BatchPlan
from vrx.launch.devices import DTYPES, device
from vrx.launch.ranks import world_size
from vrx.models import loading, lora
from vrx.training.deepspeed_engine import start_deepspeed
from vrx.training.flops import Workload
from vrx.training.step_stats import batch_workload


class BaselineStep(TypedDict):
    """One optimizer step: its number, its seconds, and the workload of each micro-batch."""

    step: int
    seconds: float
    loads: list[Workload]


class PlannedSamples(Dataset):
    """The samples of all steps of a plan, in training order."""

    def __init__(self, samples: TrainingDataset, plan: BatchPlan) -> None:
        chunks = range(plan.chunks_per_step)
        self.rows = [row for step in range(plan.num_steps) for chunk in chunks for row in plan.chunk(step, chunk)]
        self.samples = samples

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingSample:
        return self.samples[self.rows[index]]


class _Clock(TrainerCallback):
    """Measures the seconds of every optimizer step, including the loading of its batches."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.ends.append(time.perf_counter())

    def on_step_end(self, *_: object, **__: object) -> None:
        if device().type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


class _Trainer(Trainer):
    def _get_train_sampler(self, *_: object, **__: object) -> None:
        return None  # keeps the order of the plan


def train_baseline(
    run: RunConfig,
    samples: TrainingDataset,
    plan: BatchPlan,
    layers: tuple[int, ...],
    tokenizer: PreTrainedTokenizerBase,
) -> list[BaselineStep]:
    """Train the steps of a plan with the baseline; returns one row per step, with the workload of all ranks."""
    start_deepspeed()
    pad = int(tokenizer.pad_token_id)  # type: ignore[arg-type]

    def collate_for_trainer(rows: list[TrainingSample]) -> dict[str, object]:
        batch = collate(rows, pad_token_id=pad)
        inputs = batch.model_inputs()
        pixels = inputs.pop("pixels")
        return {**inputs, "pixel_values": pixels.to(DTYPES[run.train.dtype])}

    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=run.train.micro_batch_size,
            gradient_accumulation_steps=plan.chunks_per_step // world_size(),
            max_steps=plan.num_steps,
            learning_rate=run.train.lr,
            lr_scheduler_type="cosine",
            warmup_steps=run.train.warmup_ratio,
            max_grad_norm=0.0,
            bf16=run.train.dtype == "bfloat16",
            gradient_checkpointing=True,
            deepspeed=_zero3(),  # type: ignore[arg-type]
            use_cpu=device().type == "cpu",
            dataloader_num_workers=run.runtime.num_workers,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        lvlm = loading.load(run.model, dtype=DTYPES[run.train.dtype])
        tuned = lora.apply_lora(lvlm, layers, run.lora, seed=run.seed)
        groups = lora.optimizer_groups(lora.trainable_parameters(tuned), run.train)
        clock = _Clock()
        _Trainer(
            model=tuned,
            args=arguments,
            train_dataset=PlannedSamples(samples, plan),
            data_collator=collate_for_trainer,
            optimizers=(torch.optim.AdamW(groups), None),
            callbacks=[clock],
        ).train()
    rows: list[BaselineStep] = []
    for step, (began, ended) in enumerate(zip(clock.ends, clock.ends[1:], strict=False)):
        chunks = [plan.chunk(step, number) for number in range(plan.chunks_per_step)]
        loads = [batch_workload(collate([samples[row] for row in chunk], pad_token_id=pad)) for chunk in chunks]
        rows.append({"step": step, "seconds": ended - began, "loads": loads})
    return rows


def _zero3() -> dict[str, object]:
    """LLaVA's zero3.json; transformers fills in `auto`."""
    automatic = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
    return {
        "bf16": {"enabled": "auto"},
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "sub_group_size": int(1e9),
            **dict.fromkeys(automatic, "auto"),
            "stage3_max_live_parameters": int(1e9),
            "stage3_max_reuse_distance": int(1e9),
        },
    }
