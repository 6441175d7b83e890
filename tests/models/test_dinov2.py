"""An LVLM with a DINOv2 tower, compared with transformers' own Dinov2Model and image processor on the same files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from support.dinov2_models import SIDE, dinov2_model, write_tower
from support.official import GOLDEN, near
from transformers import BitImageProcessorPil, Dinov2Model

from vrx.data.images.processing import Pixels, open_rgb, pad_to_square
from vrx.models import loading
from vrx.models.architecture import parameter_counts
from vrx.models.projector_weights import read_projector

IMAGES = [open_rgb(GOLDEN / "images" / name) for name in ("landscape.png", "odd_57x56.png")]


def expected_features(config, pixels: torch.Tensor) -> torch.Tensor:
    """Features of the tower's layer by transformers, through the projector's formula: (images, tokens, hidden)."""
    tower = Dinov2Model.from_pretrained(config.vision_tower).eval()
    states = tower(pixels, output_hidden_states=True).hidden_states[config.vision_feature_layer]
    states = states[:, 1:] if config.vision_feature_select_strategy == "default" else states
    weights = read_projector(Path(config.projector))
    inner = torch.nn.functional.gelu(states @ weights["linear_1.weight"].T + weights["linear_1.bias"])
    return inner @ weights["linear_2.weight"].T + weights["linear_2.bias"]


@pytest.mark.parametrize("layer", [-1, -2, 1])
@pytest.mark.parametrize("strategy", ["default", "full"])
@torch.inference_mode()
def test_image_features_are_those_of_transformers_tower(tmp_path, strategy, layer):
    config = dinov2_model(tmp_path, strategy=strategy, layer=layer)
    pixels = torch.stack([Pixels(config)(image) for image in IMAGES])
    lvlm = loading.load(config)
    ours = torch.stack(lvlm.model.get_image_features(pixel_values=pixels).pooler_output)
    assert ours.shape[:2] == (2, config.num_image_tokens)
    near(ours, expected_features(config, pixels), 1e-5)


@pytest.mark.parametrize("trained_side", [SIDE, 35, 518 // 14 * 7])
@torch.inference_mode()
def test_logits_depend_on_every_image_token_whatever_size_the_positions_were_trained_for(tmp_path, trained_side):
    """The decoder gets the features in place of the image tokens; positions are interpolated as transformers does."""
    config = dinov2_model(tmp_path, trained_side=trained_side)
    lvlm = loading.load(config)
    image, text = lvlm.config.image_token_id, [1, 40, 41]
    ids = torch.tensor([[*text, *[image] * config.num_image_tokens, 50, 51]])
    pixels = Pixels(config)(IMAGES[0])[None]
    embeddings = lvlm.get_input_embeddings()(ids)
    embeddings[0, len(text) : len(text) + config.num_image_tokens] = expected_features(config, pixels)[0]
    near(lvlm(input_ids=ids, pixel_values=pixels).logits, lvlm(inputs_embeds=embeddings).logits, 1e-4)


@pytest.mark.parametrize("ratio", ["pad", "square"])
def test_pixels_are_those_of_transformers_processor(tmp_path, ratio):
    config = dataclasses.replace(dinov2_model(tmp_path), image_aspect_ratio=ratio)
    ours = Pixels(config)
    theirs = BitImageProcessorPil.from_pretrained(config.vision_tower)
    for image in IMAGES:
        input_image = pad_to_square(image, (123, 116, 103)) if ratio == "pad" else image  # 255 * mean, cut
        expected = theirs(input_image, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours(image), expected)
        assert expected.shape == ours.blank().shape == (3, SIDE, SIDE)


def test_saved_lvlm_with_a_dinov2_tower_loads_again_to_the_same_bits(tmp_path):
    config = dinov2_model(tmp_path)
    first = loading.load(config)
    first.save_pretrained(tmp_path / "saved")
    backbone_tokenizer = config.tokenizer or config.backbone
    again = loading.load(dataclasses.replace(config, lvlm=str(tmp_path / "saved"), tokenizer=backbone_tokenizer))
    state, saved = first.state_dict(), again.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[name], saved[name]) for name in state)


@pytest.mark.parametrize("use_swiglu", [False, True])
def test_parameter_count_of_the_tower_is_that_of_its_matrices(tmp_path, use_swiglu):
    config = dinov2_model(tmp_path, use_swiglu_ffn=use_swiglu)
    counts = parameter_counts(config)
    assert counts is not None
    layers = Dinov2Model.from_pretrained(config.vision_tower).encoder.layer
    assert counts.tower.parameters == sum(tensor.numel() for tensor in layers.parameters() if tensor.ndim > 1)
    assert counts.tower.num_patches == config.num_image_tokens


def test_tower_without_mask_token_loads(tmp_path):
    write_tower(tmp_path / "other", use_mask_token=False)
    config = dataclasses.replace(dinov2_model(tmp_path), vision_tower=str(tmp_path / "other"))
    assert loading.load(config).model.vision_tower.embeddings.mask_token is None
