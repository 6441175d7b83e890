"""Training samples with an unreadable or cut image follow the policy and are reported."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from support.training import training_dataset

from vrx.data.batch import TrainingSample, collate
from vrx.data.images.processing import Pixels
from vrx.data.instructions.encoding import IGNORE
from vrx.models import loading
from vrx.training.loss import LvlmWithLoss


@pytest.fixture
def samples(make_run, world):
    """The training samples of the small world."""
    return training_dataset(make_run(), world / "data")


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_bad_image_follows_the_policy_and_is_reported(make_run, samples, tmp_path, policy):
    row = next(index for index in range(len(samples)) if samples[index].pixels is not None)
    name = samples.rows[row]["image"]
    for path in samples.image_folder.rglob("*.png"):
        target = tmp_path / path.relative_to(samples.image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if target != tmp_path / name else path.read_bytes()[:60])
    samples.image_folder, samples.on_bad_image = tmp_path, policy
    sample = samples[row]
    assert len(sample.bad_images) == 1 and name in sample.bad_images[0]
    fully_masked = all(label == IGNORE for label in sample.labels)
    assert fully_masked == (policy == "skip")
    again = samples[row]
    assert (again.input_ids, again.labels) == (sample.input_ids, sample.labels)


def test_bad_image_is_an_error_by_default(samples, tmp_path):
    row = next(index for index in range(len(samples)) if samples[index].pixels is not None)
    samples.image_folder = tmp_path
    with pytest.raises(ValueError, match=r"record tiny_\d+: image .*no such file"):
        samples[row]


@pytest.mark.parametrize("late", [False, True], ids=["image first", "image later"])
def test_sample_with_a_cut_image_trains_on_the_text_before_it_and_is_reported(make_run, samples, late):
    """The official model keeps a part of the image's features, which no label depends on."""
    table = samples.rows
    row = next(index for index in range(len(table)) if table[index]["image"])
    shown = {**table[row], "conversations": json.dumps(conversation(late))}
    samples.rows = [shown]
    full = samples[0]
    first = full.input_ids.index(samples.image_token_id)
    samples.config = dataclasses.replace(samples.config, max_length=first + 4)
    cut = samples[0]
    assert full.cut_images == [] and len(cut.cut_images) == 1 and "model.max_length" in cut.cut_images[0]
    assert cut.pixels is None and not cut.bad_images
    assert (cut.input_ids, cut.labels) == (full.input_ids[:first], full.labels[:first])
    assert any(label != IGNORE for label in cut.labels) == late
    module = LvlmWithLoss(loading.load(samples.config), Pixels(samples.config).blank())
    official = TrainingSample(full.input_ids[: first + 4], full.labels[: first + 4])  # with a part of the image
    with torch.inference_mode():
        losses = [module(**collate([sample], pad_token_id=0).model_inputs()).item() for sample in (cut, official)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def conversation(late: bool) -> list[dict[str, str]]:
    image = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]
    text = [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "four"}]
    return text + image if late else image + text


def test_image_that_is_cut_off_entirely_is_reported(samples):
    row = next(index for index in range(len(samples.rows)) if samples.rows[index]["image"])
    samples.rows = [{**samples.rows[row], "conversations": json.dumps(conversation(True))}]
    samples.config = dataclasses.replace(samples.config, max_length=5)
    sample = samples[0]
    assert len(sample.cut_images) == 1 and sample.pixels is None and len(sample.input_ids) == 5
