"""Training: the schedule and the loop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.schema import TrainConfig
from vrx.data.batch import MicroBatch
from vrx.data.sampler import BatchPlan
from vrx.launch.devices import device
from vrx.launch.logging import is_main, rank
from vrx.launch.ranks import world_size
from vrx.runs.files import read_json_lines
from vrx.runs.run_dir import RunDir
from vrx.training import checkpoint
from vrx.training.engine import Engine
from vrx.training.flops import Workload
from vrx.training.loss import num_supervised


def lr_factor(step: int, num_steps: int, warmup_ratio: float) -> float:
    """Linear warm-up from 0, then a half cosine to 0 (transformers' cosine schedule, as in the paper's runs)."""
    warmup = math.ceil(num_steps * warmup_ratio)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


def batch_workload(batch: MicroBatch) -> Workload:
    """What a micro-batch gives a step to do."""
    lengths = batch.token_counts
    images = 0 if batch.pixels is None else len(batch.pixels)
    return Workload(sum(lengths), sum(length**2 for length in lengths), num_supervised(batch), images)


def train(
    engine: Engine,
    plan: BatchPlan,
    batches: Iterator[MicroBatch],
    config: TrainConfig,
    run_dir: Path,
    *,
    start: int,
    every: int,
    operations: Callable[[Workload], float],
) -> None:
    """Run the steps `start` to the last, log each to `train.jsonl`, keep a checkpoint `every` so many steps.

    Dropout is seeded by (seed, step, micro-batch), so neither a resume nor the number of ranks changes a number.
    `operations` counts those that a step's load needs.
    """
    accumulation = plan.chunks_per_step // world_size()
    bar = tqdm(total=plan.num_steps, initial=start, desc="train", unit="step", disable=not is_main(), mininterval=0.5)
    engine.module.train()
    with RunDir(run_dir).train_log.open("a", encoding="utf-8") as log:
        for step in range(start, plan.num_steps):
            began = time.perf_counter()
            factor = lr_factor(step, plan.num_steps, config.warmup_ratio)
            engine.set_lr(factor)
            micro_batches = [next(batches) for _ in range(accumulation)]
            waited = time.perf_counter() - began
            worries = [batch.bad_images + batch.cut_images for batch in micro_batches]
            loads = [batch_workload(batch) for batch in micro_batches]
            here = [[*dataclasses.astuple(one), len(w)] for one, w in zip(loads, worries, strict=True)]
            *told, worried = _all_sum(torch.tensor(here, dtype=torch.float64).sum(0)).tolist()
            step_load = Workload(*map(int, told))
            complaints = {
                key: _from_all([getattr(batch, key) for batch in micro_batches]) if worried else []
                for key in ("bad_images", "cut_images")
            }
            losses = []
            for number, batch in enumerate(micro_batches):
                seed_dropout(plan.seed, step, number * world_size() + rank())
                if config.loss_average == "token":
                    share = plan.chunks_per_step / max(1, step_load.supervised)
                else:
                    share = 1 / max(1, loads[number].supervised)
                try:
                    loss = engine(**batch.to(device()).model_inputs()) * share
                    engine.backward(loss)
                except torch.OutOfMemoryError:
                    raise UserError(_no_room(config, step)) from None
                losses.append(loss.detach())
                del loss  # with its graph, before the next one is made
            total = _all_sum(torch.stack(losses).double().sum().cpu() / plan.chunks_per_step).item()
            if not math.isfinite(total):
                raise UserError(f"train.lr={config.lr}: the loss of step {step} is {total}; valid is a smaller rate")
            seconds = time.perf_counter() - began
            if is_main():
                row = {"step": step, "loss": total, "lr": config.lr * factor, "tokens": step_load.tokens}
                row |= complaints
                row |= {"seconds": seconds, "seconds_waiting_for_data": waited, "operations": operations(step_load)}
                log.write(json.dumps(row) + "\n")
                log.flush()
                speed = f"{step_load.tokens / seconds:.0f}"
                bar.set_postfix(loss=f"{total:.3f}", lr=f"{row['lr']:.1e}", tok_s=speed, refresh=False)
            bar.update()
            if (step + 1) % every == 0 and step + 1 < plan.num_steps:
                checkpoint.save(engine, run_dir, step + 1)
    bar.close()


def _no_room(config: TrainConfig, step: int) -> str:
    more = "" if config.gradient_checkpointing else " or train.gradient_checkpointing=true"
    return f"train.micro_batch_size={config.micro_batch_size}: step {step} needs more memory; valid is less{more}"


def _all_sum(values: torch.Tensor) -> torch.Tensor:
    if world_size() > 1:
        on_device = values.to(device())
        dist.all_reduce(on_device)
        return on_device.cpu()
    return values.clone()


def _from_all(found: list[list[str]]) -> list[str]:
    """The complaints of every rank's micro-batches, in the order of the micro-batches."""
    of_ranks = [found] * world_size()
    if world_size() > 1:
        dist.all_gather_object(of_ranks, found)
    return [complaint for at_once in zip(*of_ranks, strict=True) for one in at_once for complaint in one]


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    told = hashlib.sha256(f"dropout {seed} {step} {micro_batch}".encode()).digest()
    torch.manual_seed(int.from_bytes(told[:8], "big") >> 1)


def summary(
    run_dir: Path, *, trainable_parameters: int, num_gpus: int, peak_memory_gb: float, ceiling: float
) -> dict[str, Any]:
    """What `train.json` tells; times are summed over the steps, so a run that was interrupted counts none twice.

    ceiling: operations a second that all devices together reach in matrix products.
    """
    rows = read_json_lines(RunDir(run_dir).train_log)
    seconds = sum(row["seconds"] for row in rows)
    operations = sum(row["operations"] for row in rows)
    return {
        "steps": len(rows),
        "seconds": seconds,
        "gpu_hours": seconds * num_gpus / 3600,
        "tokens_per_second": sum(row["tokens"] for row in rows) / seconds,
        "operations": operations,
        "operations_per_second": operations / seconds,
        "share_of_ceiling": operations / seconds / ceiling,
        "seconds_waiting_for_data": sum(row["seconds_waiting_for_data"] for row in rows),
        "peak_memory_gb": peak_memory_gb,
        "trainable_parameters": trainable_parameters,
        "final_loss": rows[-1]["loss"],
        "bad_images": [complaint for row in rows for complaint in row["bad_images"]],
        "cut_images": [complaint for row in rows for complaint in row.get("cut_images", ())],
    }
