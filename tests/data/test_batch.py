"""Collating samples into micro-batches, padded on either side or packed into one row."""

from __future__ import annotations

import pytest
import torch

from vrx.data.batch import TrainingSample, collate
from vrx.data.instructions.encoding import IGNORE

PAD = 9
SAMPLES = [
    TrainingSample([1, 2, 3], [1, IGNORE, 3], torch.zeros(3, 2, 2), cut_images=["b"]),
    TrainingSample([4], [4], bad_images=["a"], masked_samples=["c"]),
]


@pytest.mark.parametrize(
    ("side", "ids", "labels", "mask"),
    [
        ("right", [4, PAD, PAD], [4, IGNORE, IGNORE], [1, 0, 0]),
        ("left", [PAD, PAD, 4], [IGNORE, IGNORE, 4], [0, 0, 1]),
    ],
)
def test_shorter_samples_are_padded_on_the_chosen_side(side, ids, labels, mask):
    batch = collate(SAMPLES, pad_token_id=PAD, side=side)
    assert batch.input_ids.tolist() == [[1, 2, 3], ids] and batch.labels.tolist() == [[1, IGNORE, 3], labels]
    assert batch.attention_mask is not None and batch.attention_mask.tolist() == [[1, 1, 1], mask]
    assert batch.token_counts == [3, 1]


def test_packed_row_has_positions_and_no_padding():
    batch = collate(SAMPLES, pad_token_id=PAD, packed=True)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4]] and batch.labels.tolist() == [[IGNORE, IGNORE, 3, IGNORE]]
    assert batch.position_ids is not None and batch.position_ids.tolist() == [[0, 1, 2, 0]]
    assert batch.attention_mask is None and batch.token_counts == [3, 1]


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_messages_of_all_samples_are_joined(packed):
    batch = collate(SAMPLES, pad_token_id=PAD, packed=packed)
    assert batch.pixels is not None and batch.pixels.shape == (1, 3, 2, 2)
    assert (batch.bad_images, batch.cut_images, batch.masked_samples) == (["a"], ["b"], ["c"])
    assert collate(SAMPLES[1:], pad_token_id=PAD, packed=packed).pixels is None


@pytest.mark.parametrize("packed", [False, True])
def test_model_inputs_are_the_present_tensors_and_lengths_without_messages(packed):
    inputs = collate(SAMPLES, pad_token_id=PAD, packed=packed).to(torch.device("cpu")).model_inputs()
    layout = {"position_ids", "sample_lengths"} if packed else {"attention_mask"}
    assert inputs.keys() == {"input_ids", "labels", "pixels"} | layout
