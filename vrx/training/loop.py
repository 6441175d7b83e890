"""The training loop."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from vrx.config.errors import UserError
from vrx.config.schema import TrainConfig
from vrx.data.batch import MicroBatch
from vrx.data.sampler import BatchPlan
from vrx.launch import preemption
from vrx.launch.devices import device
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import world_size
from vrx.training import checkpoint
from vrx.training.engine import Engine
from vrx.training.execution import Execution
from vrx.training.flops import Workload
from vrx.training.loss import num_supervised
from vrx.training.schedule import lr_factor
from vrx.training.step_stats import StepStats, all_reduce_sum, step_stats
from vrx.training.train_log import StepRow, TrainLog, read_rows

ENOUGH_SAMPLES = 32  # to say that nothing can be learnt, where none of them has a label


def train(
    engine: Engine,
    plan: BatchPlan,
    batches: Iterator[MicroBatch],
    config: TrainConfig,
    run_dir: Path,
    *,
    start: int,
    checkpoint_every: int,
    executions: list[Execution],
    flops: Callable[[Workload], float],
) -> None:
    """Run the steps from `start` on, log each to `train.jsonl`, write a checkpoint every `checkpoint_every` steps.

    When any rank is asked to stop, it writes one after the present step and raises `Preempted`; not after the last
    step, as the result comes next. The caller defers signals, see `preemption.deferred`.

    Dropout is seeded by (seed, step, micro-batch), so the numbers depend neither on a resume nor on the number of
    ranks. `flops` gives the FLOPs of a step's workload.
    """
    bar = tqdm(total=plan.num_steps, initial=start, desc="train", unit="step", disable=not is_main(), mininterval=0.5)
    engine.module.train()
    has_reported_masked = False
    num_samples, num_masked = _samples_before(start, run_dir, config)
    with TrainLog(run_dir) as train_log:
        for step in range(start, plan.num_steps):
            row = _run_step(engine, plan, batches, config, step, flops=flops)
            train_log.write(row)
            num_samples, num_masked = num_samples + row.samples, num_masked + len(row.masked_samples)
            is_last = step + 1 == plan.num_steps
            if num_masked == num_samples and (num_samples >= min(ENOUGH_SAMPLES, len(plan.rows)) or is_last):
                raise UserError(f"nothing can be learnt from {num_samples} samples, such as {row.masked_samples[0]}")
            if row.masked_samples and not has_reported_masked:
                has_reported_masked = True
                log(f"{row.masked_samples[0]}; such samples teach nothing, train.jsonl lists them all")
            speed = f"{row.tokens / row.seconds:.0f}"
            bar.set_postfix(loss=f"{row.loss:.3f}", lr=f"{row.lr:.1e}", tok_s=speed, refresh=False)
            bar.update()
            if is_last:
                break
            is_asked = is_asked_to_stop(run_dir)
            if (step + 1) % checkpoint_every == 0 or is_asked:
                train_log.sync()
                checkpoint.save(engine, run_dir, step + 1, executions)
            if is_asked:
                preemption.stop()
    bar.close()
    if num_masked:
        log(f"{num_masked:,} of {num_samples:,} samples taught nothing; train.json lists them")


def _samples_before(start: int, run_dir: Path, config: TrainConfig) -> tuple[int, int]:
    """The samples of the steps before `start` and how many of these taught nothing, by the log; the same on all ranks.

    A row of an earlier version, which counts no samples, has a whole global batch of them.
    """
    rows = read_rows(run_dir) if start and is_main() else []
    counts = [(row.get("samples", config.global_batch_size), len(row.get("masked_samples", ()))) for row in rows]
    num_samples, num_masked = all_reduce_sum(torch.tensor([(0, 0), *counts]).sum(0)).tolist()
    return num_samples, num_masked


def is_asked_to_stop(run_dir: Path) -> bool:
    """Whether any rank was asked to stop, by a signal or by the driver; the same on all ranks."""
    is_asked = preemption.requested() or (is_main() and preemption.stop_file(run_dir).exists())
    return bool(all_reduce_sum(torch.tensor([float(is_asked)])).item())


def _run_step(
    engine: Engine,
    plan: BatchPlan,
    batches: Iterator[MicroBatch],
    config: TrainConfig,
    step: int,
    *,
    flops: Callable[[Workload], float],
) -> StepRow:
    """One optimizer step, as a row of the log."""
    began = time.perf_counter()
    factor = lr_factor(step, plan.num_steps, warmup_ratio=config.warmup_ratio, scheduler=config.scheduler)
    engine.set_lr(factor)
    micro_batches = [next(batches) for _ in range(plan.chunks_per_step // world_size())]
    waited = time.perf_counter() - began
    stats = step_stats(micro_batches)
    loss = _forward_backward(engine, micro_batches, stats, config, plan, step)
    return StepRow(
        step=step,
        loss=loss,
        lr=config.lr * factor,
        grad_norm=engine.grad_norm,
        tokens=int(stats.workload.tokens),
        samples=stats.num_samples,
        bad_images=stats.bad_images,
        cut_images=stats.cut_images,
        masked_samples=stats.masked_samples,
        seconds=time.perf_counter() - began,
        seconds_waiting_for_data=waited,
        flops=flops(stats.workload),
    )


def _forward_backward(
    engine: Engine,
    micro_batches: Sequence[MicroBatch],
    stats: StepStats,
    config: TrainConfig,
    plan: BatchPlan,
    step: int,
) -> float:
    """Run the micro-batches of a step, the last of which updates the weights; gives the loss of the global batch."""
    losses = []
    for number, batch in enumerate(micro_batches):
        seed_dropout(plan.seed, step, number * world_size() + rank())
        if config.loss_average == "token":
            scale = plan.chunks_per_step / max(1, stats.workload.supervised_tokens)
        else:
            scale = 1 / max(1, num_supervised(batch))
        try:
            loss = engine(**batch.to(device()).model_inputs()) * scale
            engine.backward(loss)
        except torch.OutOfMemoryError:
            raise UserError(_out_of_memory_message(config, step)) from None
        losses.append(loss.detach())
        del loss  # frees its graph before the next micro-batch
    total = all_reduce_sum(torch.stack(losses).double().sum().cpu() / plan.chunks_per_step).item()
    _require_numbers(config, step, loss=total, norm=engine.grad_norm)
    return total


def _require_numbers(config: TrainConfig, step: int, *, loss: float, norm: float | None) -> None:
    """`UserError` where the loss or the gradient of a step is NaN or infinite, so that its weights are not saved.

    norm: of the gradient, None where it is unknown, -1 where DeepSpeed found it to be no number.
    """
    for name, value in (("loss", loss), ("norm of the gradient", 0.0 if norm is None else norm)):
        if math.isfinite(value) and value >= 0:
            continue
        if step == 0:
            raise UserError(
                f"train.dtype={config.dtype}: the {name} of step 0 is {value}, before any update; weights or data are "
                f"damaged, or numbers are too large for this type"
            )
        raise UserError(f"train.lr={config.lr}: the {name} of step {step} is {value}; use a smaller learning rate")


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    """Seed torch for one micro-batch, whichever rank runs it."""
    digest = hashlib.sha256(f"dropout {seed} {step} {micro_batch}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _out_of_memory_message(config: TrainConfig, step: int) -> str:
    checkpointing = "" if config.gradient_checkpointing else " or train.gradient_checkpointing=true"
    return (
        f"train.micro_batch_size={config.micro_batch_size}: out of memory at step {step}; "
        f"use a smaller micro-batch{checkpointing}"
    )
