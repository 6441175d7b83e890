"""The random LVLMs of `vrx bench` in the shape of a model with a DINOv2 tower, which takes images of any size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.dinov2_models import dinov2_model

from vrx.data.images.processing import Pixels
from vrx.jobs.bench import synthetic
from vrx.models import fit, loading


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("scale", [1, 2])
def test_random_parts_with_a_dinov2_tower_fit_together(tmp_path, strategy, scale):
    like = dinov2_model(tmp_path / "like", strategy=strategy)
    parts = tmp_path / "parts"
    synthetic.write_parts(like, parts, scale=scale, dtype=torch.float32)
    folders = {name: str(parts / name) for name in ("backbone", "vision_tower", "projector")}
    number = like.num_image_tokens if scale == 1 else synthetic.PATCHES**2 + (strategy == "full")
    model = dataclasses.replace(like, **folders, tokenizer=like.backbone, num_image_tokens=number)
    fit.require_fit(model)
    lvlm = loading.load(model)
    pixels = Pixels(model).blank()[None]
    (features,) = lvlm.model.get_image_features(pixel_values=pixels).pooler_output
    assert features.shape == (number, lvlm.config.text_config.hidden_size)
