"""Training samples and micro-batches, and the one function that makes the second from the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from vrx.data.instructions.encoding import IGNORE
from vrx.data.joining import join_tensors


@dataclass
class TrainingSample:
    """One sample as token ids, labels and pixel values.

    input_ids, labels: (length,), image tokens expanded; positions that are not learned have the label IGNORE.
    pixels: (3, H, W), or None without an image; of LLaVA-1.5 and Bunny alone. tensors: what the processor of any other
    model gives beside the ids, by the name that the model's forward pass takes it under, in the form that
    `vrx.data.joining` describes. num_pictures: pictures in `tensors`. bad_images, cut_images, masked_samples: messages
    that name the record, for unreadable images, for an image cut by `model.max_length`, and for a sample with every
    label masked.
    """

    input_ids: list[int]
    labels: list[int]
    pixels: Tensor | None = None
    bad_images: list[str] = field(default_factory=list)
    cut_images: list[str] = field(default_factory=list)
    masked_samples: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    num_pictures: int = 0


@dataclass
class MicroBatch:
    """Samples that go through the model together.

    input_ids, labels: (batch, length). Padded samples come with attention_mask, (batch, length), 1 at tokens and 0 at
    padding. Packed samples form one row without padding, batch = 1; they come with position_ids, (1, length), and
    sample_lengths, which sum to the row's length. pixels: (images, 3, H, W), or None where no sample has an image.
    bad_images, cut_images, masked_samples: the messages of all samples. tensors: those of the samples, joined as
    `vrx.data.joining` says; num_pictures: pictures of each sample, in order, where the model takes `tensors`.
    has_blank: the last sample is not of the data and teaches nothing, see `vrx.data.dataloader`; it is not counted.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor | None = None
    pixels: Tensor | None = None
    position_ids: Tensor | None = None
    sample_lengths: list[int] | None = None
    bad_images: list[str] = field(default_factory=list)
    cut_images: list[str] = field(default_factory=list)
    masked_samples: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    num_pictures: list[int] | None = None
    has_blank: bool = False

    @property
    def token_counts(self) -> list[int]:
        """Tokens of each sample of the data, padding not counted."""
        counts = self.sample_lengths
        if counts is None:
            assert self.attention_mask is not None
            counts = self.attention_mask.sum(1).tolist()
        return counts[: len(counts) - self.has_blank]

    @property
    def picture_count(self) -> int:
        """Pictures of the samples of the data."""
        if self.pixels is not None:
            return len(self.pixels)
        counts = self.num_pictures or []
        return sum(counts[: len(counts) - self.has_blank])

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch with its tensors on a device."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MicroBatch:
        """The same micro-batch in page-locked memory; torch's DataLoader calls this method by its name."""
        return self._with_tensors(Tensor.pin_memory)

    def model_inputs(self) -> dict[str, Tensor | list[int]]:
        """The arguments of the forward pass of a model with its loss, such as `LvlmWithLoss.forward`.

        A model that takes `tensors` gets each under its own name, and `num_pictures`.
        """
        lengths = {} if self.sample_lengths is None else {"sample_lengths": self.sample_lengths}
        pictures = {} if self.num_pictures is None else {"num_pictures": self.num_pictures}
        return {**self._fields(), **self.tensors, **lengths, **pictures}

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> MicroBatch:
        changed = {name: change(tensor) for name, tensor in self._fields().items()}
        tensors = {name: change(tensor) for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, **changed, tensors=tensors)

    def _fields(self) -> dict[str, Tensor]:
        """The tensors that are fields of their own."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def collate(
    samples: Sequence[TrainingSample],
    *,
    pad_token_id: int,
    packed: bool = False,
    side: Literal["left", "right"] = "right",
) -> MicroBatch:
    """Make one micro-batch, padded on `side` or `packed` into one row.

    When packed, the first label of each sample is ignored: it would be predicted from the previous sample.
    """
    lengths = [len(sample.input_ids) for sample in samples]
    images = [sample.pixels for sample in samples if sample.pixels is not None]
    pixels = torch.stack(images) if images else None
    bad_images = [message for sample in samples for message in sample.bad_images]
    cut_images = [message for sample in samples for message in sample.cut_images]
    masked_samples = [message for sample in samples for message in sample.masked_samples]
    is_generic = any(sample.tensors for sample in samples)
    tensors = join_tensors([sample.tensors for sample in samples], lengths, side=None if packed else side)
    num_pictures = [sample.num_pictures for sample in samples] if is_generic else None
    if packed:
        labels = [label for sample in samples for label in (IGNORE, *sample.labels[1:])]
        return MicroBatch(
            input_ids=torch.tensor([[token for sample in samples for token in sample.input_ids]]),
            labels=torch.tensor([labels]),
            position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
            sample_lengths=lengths,
            pixels=pixels,
            bad_images=bad_images,
            cut_images=cut_images,
            masked_samples=masked_samples,
            tensors=tensors,
            num_pictures=num_pictures,
        )
    return MicroBatch(
        input_ids=_pad([sample.input_ids for sample in samples], pad_token_id, side),
        labels=_pad([sample.labels for sample in samples], IGNORE, side),
        attention_mask=_pad([[1] * length for length in lengths], 0, side),
        pixels=pixels,
        bad_images=bad_images,
        cut_images=cut_images,
        masked_samples=masked_samples,
        tensors=tensors,
        num_pictures=num_pictures,
    )


def _pad(rows: Sequence[list[int]], value: int, side: str) -> Tensor:
    """(batch, longest) int64."""
    longest = max(map(len, rows))
    fill = [[value] * (longest - len(row)) for row in rows]
    pairs = zip(rows, fill, strict=True) if side == "right" else zip(fill, rows, strict=True)
    return torch.tensor([left + right for left, right in pairs])
