"""From rows of instruction data to the micro-batches of a step, the same whatever the number of ranks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from vrx.config import ModelConfig, TrainConfig
from vrx.images import BadImage, Pixels, open_rgb
from vrx.paths import inside
from vrx.prompts import IGNORE, expand_images, tokenize

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]


class Samples(Dataset):
    """Instruction samples as ids, labels and pixels; what is bad about an image is told in `bad`."""

    def __init__(
        self,
        rows: datasets.Dataset,
        config: ModelConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_token_id: int,
        image_folder: Path | None,
        on_bad_image: str,
    ) -> None:
        self.rows, self.config, self.tokenizer, self.image_token_id = rows, config, tokenizer, image_token_id
        self.image_folder, self.on_bad_image = image_folder, on_bad_image
        self.pixels = Pixels(config)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """`input_ids` and `labels` (lists), `pixels` (3, H, W) or None, `bad` (list of complaints)."""
        bad: list[str] = []
        for attempt in range(100):
            row = self.rows[index]
            try:
                image = open_rgb(inside(self.image_folder, row["image"])) if row["image"] else None  # type: ignore[arg-type]
                encoded = self._encode(row, image is not None)
                slots = encoded["input_ids"].count(self.image_token_id)
                if image is None or slots == 0:  # without a tag in its conversation an image has no place
                    return {**encoded, "pixels": None, "bad": bad}
                if slots < self.config.num_image_tokens:
                    bad.append(f"record {row['id'] or index}: model.max_length={self.config.max_length} cuts its image")
                    return self._silent(row, bad)
                return {**encoded, "pixels": self.pixels(image), "bad": bad}
            except BadImage as error:
                bad.append(f"record {row['id'] or index}: image {error}")
                if self.on_bad_image == "error":
                    raise ValueError(f"{bad[-1]} (instructions.on_bad_image=skip or replace goes on)") from None
                if self.on_bad_image == "skip":
                    return self._silent(row, bad)
                index = random.Random(f"replace {index} {attempt}").randrange(len(self.rows))
        raise ValueError(f"100 bad images in a row, the last: {bad[-1]}")

    def _silent(self, row: dict[str, Any], bad: list[str]) -> Batch:
        """A sample that keeps its place in the batch and teaches nothing."""
        ids = self._encode(row, False)["input_ids"]
        return {"input_ids": ids, "labels": [IGNORE] * len(ids), "pixels": None, "bad": bad}

    def _encode(self, row: dict[str, Any], has_image: bool) -> Batch:
        turns = json.loads(row["conversations"])
        length = self.config.max_length
        encoded = tokenize(turns, self.tokenizer, self.config.template, has_image=has_image, max_length=length)
        ids, labels = expand_images(
            encoded.input_ids,
            encoded.labels,
            image_token_id=self.image_token_id,
            num_image_tokens=self.config.num_image_tokens,
            max_length=length,
            keep_cut_images=True,
        )
        return {"input_ids": ids, "labels": labels}


def collate(samples: list[Batch], *, pad_token_id: int) -> Batch:
    """One micro-batch, padded on the right: `input_ids`, `labels`, `attention_mask` (batch, length), `pixels`
    (images, 3, H, W) or None where no sample has an image, `bad`."""
    length = max(len(sample["input_ids"]) for sample in samples)

    def padded(key: str, value: int) -> torch.Tensor:
        return torch.tensor([sample[key] + [value] * (length - len(sample[key])) for sample in samples])

    images = [sample["pixels"] for sample in samples if sample["pixels"] is not None]
    lengths = torch.tensor([[len(sample["input_ids"])] for sample in samples])
    return {
        "input_ids": padded("input_ids", pad_token_id),
        "labels": padded("labels", IGNORE),
        "attention_mask": (torch.arange(length) < lengths).long(),
        "pixels": torch.stack(images) if images else None,
        "bad": [complaint for sample in samples for complaint in sample["bad"]],
    }


class Plan:
    """Which rows make which micro-batch: global batches in a seeded order, cut into chunks of `micro_batch_size`.

    A chunk's rows do not depend on the number of ranks; rank r takes the chunks r, r + ranks, ... of each step. The
    last batch of an epoch is filled up from its beginning.
    """

    def __init__(self, rows: list[int], config: TrainConfig, *, seed: int) -> None:
        self.rows, self.config, self.seed = rows, config, seed
        self.steps_per_epoch = math.ceil(len(rows) / config.global_batch_size)
        self.num_steps = config.max_steps or config.epochs * self.steps_per_epoch
        self.chunks_per_step = config.global_batch_size // config.micro_batch_size
        self._epoch, self._order = -1, rows

    def chunk(self, step: int, number: int) -> list[int]:
        """The rows of micro-batch `number` of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(self.rows)
            random.Random(f"order {self.seed} {epoch}").shuffle(self._order)
        first = place * self.config.global_batch_size + number * self.config.micro_batch_size
        return [self._order[index % len(self._order)] for index in range(first, first + self.config.micro_batch_size)]

    def of_rank(self, rank: int, ranks: int, *, start: int = 0) -> Iterator[list[int]]:
        for step in range(start, self.num_steps):
            for number in range(rank, self.chunks_per_step, ranks):
                yield self.chunk(step, number)


def loader(samples: Samples, chunks: Iterator[list[int]], *, pad_token_id: int, num_workers: int) -> DataLoader:
    """Micro-batches in the given order."""

    def collated(rows: list[Batch]) -> Batch:
        return collate(rows, pad_token_id=pad_token_id)

    return DataLoader(samples, batch_sampler=chunks, collate_fn=collated, num_workers=num_workers)  # type: ignore[arg-type]
