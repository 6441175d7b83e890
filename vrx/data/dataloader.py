"""Loading micro-batches in worker processes."""

from __future__ import annotations

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
) -> DataLoader[MicroBatch]:
    """Micro-batches of the rows that `chunks` names, in its order; on a GPU machine in page-locked memory."""

    def collate_rows(rows: list[TrainingSample]) -> MicroBatch:
        return collate(rows, pad_token_id=pad_token_id, packed=packed)

    return DataLoader(
        samples,
        batch_sampler=chunks,  # type: ignore[arg-type]
        collate_fn=collate_rows,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
