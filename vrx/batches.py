"""From rows of instruction data to the micro-batches of a step, the same whatever the number of ranks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from vrx.config import ModelConfig, TrainConfig
from vrx.grouping import by_modality
from vrx.images import BadImage, Pixels, open_rgb
from vrx.paths import inside
from vrx.prompts import IGNORE, expand_images, tokenize
from vrx.vocabulary import IMAGE_TOKEN

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]


class Samples(Dataset):
    """Instruction samples as ids, labels and pixels; what is bad about an image is told in `bad`, in `cut` whose image
    `model.max_length` cuts."""

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
        """`input_ids` and `labels` (lists), `pixels` (3, H, W) or None, `bad` and `cut` (lists of complaints)."""
        bad: list[str] = []
        for attempt in range(100):
            row = self.rows[index]
            try:
                image = open_rgb(inside(self.image_folder, row["image"])) if row["image"] else None  # type: ignore[arg-type]
                sample = {**self.encoded(row, image is not None), "bad": bad, "pixels": None}
                if sample["cut"]:
                    sample["cut"] = [f"record {row['id'] or index}: model.max_length={self.config.max_length}"]
                elif image is not None and self.image_token_id in sample["input_ids"]:  # else it has no tag, no place
                    sample["pixels"] = self.pixels(image)
                return sample
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
        ids = self.encoded(row, False)["input_ids"]
        return {"input_ids": ids, "labels": [IGNORE] * len(ids), "pixels": None, "bad": bad, "cut": []}

    def encoded(self, row: dict[str, Any], has_image: bool) -> Batch:
        """Ids and labels. A sample whose image is cut ends before it: what the official code lets follow, a part of
        the image's features, has no label after it, so neither loss nor gradient tells the difference."""
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
        slots = encoded.input_ids.count(IMAGE_TOKEN) * self.config.num_image_tokens
        cut = has_image and ids.count(self.image_token_id) < slots
        end = ids.index(self.image_token_id) if cut and self.image_token_id in ids else len(ids)
        return {"input_ids": ids[:end], "labels": labels[:end], "cut": [True] * cut}


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


class Plan:
    """Which rows make which micro-batch: global batches in a seeded order, cut into chunks of `micro_batch_size`.

    A chunk's rows do not depend on the number of ranks; rank r takes the chunks r, r + ranks, ... of each step. The
    last batch of an epoch is filled up from its beginning. `lengths`, of each of the rows, are for
    `train.group_by_modality`, see `vrx/grouping.py`.
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
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._of_epoch(epoch)
        first = place * self.config.global_batch_size + number * self.config.micro_batch_size
        return [self._order[index % len(self._order)] for index in range(first, first + self.config.micro_batch_size)]

    def _of_epoch(self, epoch: int) -> list[int]:
        generator = random.Random(f"order {self.seed} {epoch}")
        if not self.config.group_by_modality:
            order = list(self.rows)
            generator.shuffle(order)
            return order
        assert self.lengths is not None
        numbers = by_modality(
            self.lengths,
            batch_size=self.config.global_batch_size,
            num_chunks=self.chunks_per_step,
            generator=torch.Generator().manual_seed(generator.getrandbits(63)),
        )
        return [self.rows[number] for number in numbers]

    def of_rank(self, rank: int, ranks: int, *, start: int = 0) -> Iterator[list[int]]:
        for step in range(start, self.num_steps):
            for number in range(rank, self.chunks_per_step, ranks):
                yield self.chunk(step, number)


def loader(
    samples: Samples, chunks: Iterator[list[int]], *, pad_token_id: int, num_workers: int, packed: bool = False
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
