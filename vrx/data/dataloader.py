"""Loading micro-batches in worker processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from vrx.data.batch import MicroBatch, TrainingSample, collate
from vrx.data.sample_dataset import SampleDataset


def make_dataloader(
    samples: SampleDataset[Any],
    chunks: Iterator[list[int]],
    *,
    pad_token_id: int,
    num_workers: int,
    packed: bool = False,
    blank: TrainingSample | None = None,
) -> DataLoader[MicroBatch]:
    """Micro-batches of the rows that `chunks` names, in its order; on a GPU machine in page-locked memory.

    blank: joins a micro-batch in which no sample has a picture, see `with_blank`.
    """

    def collate_rows(rows: list[TrainingSample]) -> MicroBatch:
        if blank is not None and not any(row.num_pictures for row in rows):
            return with_blank(rows, blank, pad_token_id=pad_token_id, packed=packed)
        return collate(rows, pad_token_id=pad_token_id, packed=packed)

    return DataLoader(
        samples,
        batch_sampler=chunks,  # type: ignore[arg-type]
        collate_fn=collate_rows,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def with_blank(
    rows: list[TrainingSample], blank: TrainingSample, *, pad_token_id: int, packed: bool = False
) -> MicroBatch:
    """A micro-batch of samples without pictures, and of one with a picture from which nothing is learned.

    So every micro-batch runs the same modules, as it must under ZeRO-3, where ranks gather the weights of each module
    together. The loss and the gradients are those of the samples alone, because all labels of `blank` are masked.
    """
    batch = collate([*rows, blank], pad_token_id=pad_token_id, packed=packed)
    return dataclasses.replace(batch, has_blank=True)
