"""Micro-batches: padding, packing, loading."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from vrx.data.dataset import Batch, TrainingDataset
from vrx.data.encoding import IGNORE


def collate(samples: list[Batch], *, pad_token_id: int, packed: bool = False) -> Batch:
    """One micro-batch: `input_ids` and `labels` (batch, length), `pixels` (images, 3, H, W) or None where no sample has
    an image, `bad`, `cut`; and `attention_mask` (batch, length), padded on the right, or where it is `packed` all
    samples in one row, their `position_ids` (1, length) and `sample_lengths`.

    A sample's first token has no label in a row: it would be the last one's of the sample before to tell.
    """
    images = [sample["pixels"] for sample in samples if sample["pixels"] is not None]
    lengths = [len(sample["input_ids"]) for sample in samples]
    if packed:
        firsts = [[IGNORE, *sample["labels"][1:]] for sample in samples]
        text: Batch = {
            "input_ids": torch.tensor([[token for sample in samples for token in sample["input_ids"]]]),
            "labels": torch.tensor([[label for labels in firsts for label in labels]]),
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "sample_lengths": lengths,
        }
    else:
        text = {
            "input_ids": _padded([sample["input_ids"] for sample in samples], pad_token_id),
            "labels": _padded([sample["labels"] for sample in samples], IGNORE),
            "attention_mask": (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long(),
        }
    complaints = {key: [complaint for sample in samples for complaint in sample[key]] for key in ("bad", "cut")}
    return {**text, "pixels": torch.stack(images) if images else None, **complaints}


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def make_dataloader(
    samples: TrainingDataset, chunks: Iterator[list[int]], *, pad_token_id: int, num_workers: int, packed: bool = False
) -> DataLoader:
    """Micro-batches in the given order, where a GPU takes them in memory that it can read while it computes."""

    def collated(rows: list[Batch]) -> Batch:
        return collate(rows, pad_token_id=pad_token_id, packed=packed)

    return DataLoader(
        samples,
        batch_sampler=chunks,  # type: ignore[arg-type]
        collate_fn=collated,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
