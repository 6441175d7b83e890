"""The order of training samples and their micro-batches."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import torch

from vrx.config.schema import TrainConfig
from vrx.data.modality_sampler import modality_grouped_order


class BatchPlan:
    """Which rows make which micro-batch: global batches in a seeded order, cut into chunks of `micro_batch_size`.

    A chunk's rows do not depend on the number of ranks; rank r takes the chunks r, r + ranks, ... of each step. The
    last batch of an epoch is filled up from its beginning. lengths: in words, negative for a row without an image;
    needed for `train.group_by_modality`, see `modality_sampler`.
    """

    def __init__(
        self, rows: list[int], config: TrainConfig, *, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        self.rows, self.config, self.seed, self.lengths = rows, config, seed, lengths
        assert lengths is not None or not config.group_by_modality
        self.steps_per_epoch = math.ceil(len(rows) / config.global_batch_size)
        self.num_steps = config.max_steps or config.epochs * self.steps_per_epoch
        self.chunks_per_step = config.global_batch_size // config.micro_batch_size
        self._epoch, self._order = -1, rows

    def chunk(self, step: int, number: int) -> list[int]:
        """The rows of micro-batch `number` of a step."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        first = step_in_epoch * self.config.global_batch_size + number * self.config.micro_batch_size
        return [self._order[index % len(self._order)] for index in range(first, first + self.config.micro_batch_size)]

    def _epoch_order(self, epoch: int) -> list[int]:
        generator = random.Random(f"order {self.seed} {epoch}")
        if not self.config.group_by_modality:
            order = list(self.rows)
            generator.shuffle(order)
            return order
        assert self.lengths is not None
        numbers = modality_grouped_order(
            self.lengths,
            batch_size=self.config.global_batch_size,
            num_chunks=self.chunks_per_step,
            generator=torch.Generator().manual_seed(generator.getrandbits(63)),
        )
        return [self.rows[number] for number in numbers]

    def of_rank(self, rank: int, ranks: int, *, start: int = 0) -> Iterator[list[int]]:
        """The rows of each micro-batch of one of `ranks` ranks, from step `start` on."""
        for step in range(start, self.num_steps):
            for number in range(rank, self.chunks_per_step, ranks):
                yield self.chunk(step, number)
