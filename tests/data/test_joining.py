"""Joining the tensors of samples: what belongs to a sample is found again in the micro-batch."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from vrx.data.batch import TrainingSample, collate
from vrx.data.instructions.encoding import IGNORE


def sample(length: int, tiles: list[int], *, side: int = 4) -> TrainingSample:
    """A sample with a picture for each number of tiles; all of its values differ from zero."""
    generator = torch.Generator().manual_seed(length)
    ids = list(range(10, 10 + length))
    if not tiles:
        return TrainingSample(ids, ids, tensors={"token_type_ids": torch.zeros(length, dtype=torch.long)})
    tensors = {
        "token_type_ids": torch.arange(length) + 1,
        "pixel_values": torch.rand(len(tiles), max(tiles), 3, side, side, generator=generator) + 1,
        "image_sizes": torch.tensor([[side, side]] * len(tiles)),
    }
    return TrainingSample(ids, ids, tensors=tensors, num_pictures=len(tiles))


SAMPLES = [sample(5, [2]), sample(3, []), sample(7, [1, 3], side=6)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_samples_are_found_again_beside_their_zeros(side: Literal["left", "right"]) -> None:
    batch = collate(SAMPLES, pad_token_id=0, side=side)
    assert batch.attention_mask is not None
    for row, (part, mask) in enumerate(zip(SAMPLES, batch.attention_mask.bool(), strict=True)):
        assert batch.input_ids[row][mask].tolist() == part.input_ids
        assert torch.equal(batch.tensors["token_type_ids"][row][mask], part.tensors["token_type_ids"])
        assert not batch.tensors["token_type_ids"][row][~mask].any()


def test_packed_samples_lie_end_to_end() -> None:
    batch = collate(SAMPLES, pad_token_id=0, packed=True)
    assert batch.sample_lengths == [5, 3, 7]
    parts = batch.tensors["token_type_ids"][0].split(batch.sample_lengths)
    assert all(torch.equal(part, own.tensors["token_type_ids"]) for part, own in zip(parts, SAMPLES, strict=True))
    assert batch.labels[0, [0, 5, 8]].tolist() == [IGNORE] * 3


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_keep_their_order_and_are_padded_up(packed: bool) -> None:
    batch = collate(SAMPLES, pad_token_id=0, packed=packed)
    assert batch.num_pictures == [1, 0, 2]
    pixels = batch.tensors["pixel_values"]
    assert pixels.shape == (3, 3, 3, 6, 6)
    assert torch.equal(pixels[0, :2, :, :4, :4], SAMPLES[0].tensors["pixel_values"][0])
    assert torch.equal(pixels[1:], SAMPLES[2].tensors["pixel_values"])
    assert pixels[0].count_nonzero() == SAMPLES[0].tensors["pixel_values"].numel()
    assert batch.tensors["image_sizes"].tolist() == [[4, 4], [6, 6], [6, 6]]


def test_row_of_a_model_that_looks_pictures_up_by_sample_belongs_to_its_sample() -> None:
    with_picture = TrainingSample(
        [1, 2], [1, 2], tensors={"cross_attention_mask": torch.ones(2, 1, 4), "pixel_values": torch.ones(1, 1, 4, 3)}
    )
    batch = collate([TrainingSample([1], [1]), with_picture], pad_token_id=0)
    assert batch.tensors["cross_attention_mask"].sum((1, 2, 3)).tolist() == [0, 8]
    assert batch.tensors["pixel_values"].sum((1, 2, 3)).tolist() == [0, 12]


def test_model_gets_each_tensor_under_its_name_on_the_device() -> None:
    batch = collate(SAMPLES, pad_token_id=0).to(torch.device("meta"))
    inputs = batch.model_inputs()
    assert {"input_ids", "labels", "attention_mask", "pixel_values", "image_sizes", "token_type_ids"} < set(inputs)
    assert all(value.is_meta for value in inputs.values() if isinstance(value, torch.Tensor))
    assert inputs["num_pictures"] == [1, 0, 2]


def test_samples_without_tensors_give_the_inputs_of_llava_alone() -> None:
    batch = collate([TrainingSample([1, 2], [1, 2])], pad_token_id=0)
    assert set(batch.model_inputs()) == {"input_ids", "labels", "attention_mask"}
