"""What one optimizer step works on, summed over its micro-batches and ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vrx.data.batch import MicroBatch
from vrx.launch.devices import device
from vrx.launch.ranks import gather, world_size
from vrx.training.flops import Workload
from vrx.training.loss import num_supervised

MESSAGES = ("bad_images", "cut_images", "masked_samples")


@dataclass(frozen=True)
class StepStats:
    """Workload and samples of a global batch, with the messages about single samples in their order.

    masked_samples: those whose labels are all masked, from which nothing is learned.
    """

    workload: Workload
    num_samples: int
    bad_images: list[str]
    cut_images: list[str]
    masked_samples: list[str]


def batch_workload(batch: MicroBatch) -> Workload:
    """The workload of one micro-batch."""
    lengths = batch.token_counts
    squares = sum(length**2 for length in lengths)
    return Workload(sum(lengths), squares, num_supervised(batch), batch.picture_count)


def step_stats(micro_batches: Sequence[MicroBatch]) -> StepStats:
    """The statistics of a step, reduced once over all ranks; every rank gets the same."""
    counts = []
    for batch in micro_batches:
        num_messages = sum(len(getattr(batch, name)) for name in MESSAGES)
        counts.append([*dataclasses.astuple(batch_workload(batch)), len(batch.token_counts), num_messages])
    *workload, num_samples, num_messages = map(int, all_reduce_sum(torch.tensor(counts, dtype=torch.float64).sum(0)))
    messages = {
        name: _gather([getattr(batch, name) for batch in micro_batches]) if num_messages else [] for name in MESSAGES
    }
    return StepStats(Workload(*workload), num_samples, **messages)


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all ranks, on the CPU."""
    if world_size() > 1:
        on_device = values.to(device())
        dist.all_reduce(on_device)
        return on_device.cpu()
    return values.clone()


def _gather(messages: list[list[str]]) -> list[str]:
    """The messages of all ranks' micro-batches, in the order of the micro-batches."""
    return [
        message for at_once in zip(*gather(messages), strict=True) for micro_batch in at_once for message in micro_batch
    ]
