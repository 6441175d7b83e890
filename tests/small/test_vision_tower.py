"""A tower comes out of an ONNX graph as it went in; the random one has its shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.small_world import prepared_folder
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from vrx.config.errors import UserError
from vrx.small.stock import open_stocks
from vrx.small.vision_tower import convert_vision_tower, random_vision_tower, save_processor

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'vrx[small]'")


def write_graph(state: dict[str, torch.Tensor], path: Path) -> None:
    """An ONNX graph as exporters write it: weights of linear layers transposed and without their names."""
    from onnx import helper, numpy_helper

    nodes, constants = [], {}
    for name, tensor in state.items():
        value = tensor.numpy()
        stem = name.removesuffix(".weight")
        if name.endswith(".weight") and value.ndim == 2:
            constants[f"onnx::MatMul_{stem}"] = value.T
            nodes.append(helper.make_node("MatMul", ["input", f"onnx::MatMul_{stem}"], [f"{stem}_product"]))
            nodes.append(helper.make_node("Add", [f"backbone.{stem}.bias", f"{stem}_product"], [stem]))
        elif name == "embeddings.position_embeddings":
            constants |= {"onnx::Concat_1": value[:, :1], "onnx::Reshape_2": value[:, 1:]}
        elif name != "embeddings.mask_token":
            constants[f"backbone.{name}"] = value
    constants["head.bias"] = np.zeros(3, dtype=np.float32)
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "tower", [], [], initializer=tensors)), str(path))


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=56, patch_size=14)
    model = Dinov2Model(config)
    torch.nn.init.zeros_(model.embeddings.mask_token)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter) * (parameter is not model.embeddings.mask_token)
    model.save_pretrained(tmp_path / "tower")
    save_processor(tmp_path / "tower", image_size=28)
    return tmp_path / "tower"


def test_the_converted_tower_has_every_weight_and_the_same_shape(tower: Path, tmp_path: Path):
    state = load_file(tower / "model.safetensors")
    write_graph(state, tmp_path / "graph.onnx")
    convert_vision_tower(tmp_path / "graph.onnx", tmp_path / "converted", image_size=28)
    converted = load_file(tmp_path / "converted" / "model.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[name], state[name]) for name in state)
    config, original = (Dinov2Config.from_pretrained(folder) for folder in (tmp_path / "converted", tower))
    for field in ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "mlp_ratio"):
        assert getattr(config, field) == getattr(original, field)


def test_a_graph_without_a_weight_is_refused(tower: Path, tmp_path: Path):
    state = load_file(tower / "model.safetensors")
    del state["encoder.layer.1.mlp.fc2.weight"]
    write_graph(state, tmp_path / "graph.onnx")
    with pytest.raises(UserError, match=r"vision tower: missing_keys encoder\.layer\.1\.mlp\.fc2\.weight"):
        convert_vision_tower(tmp_path / "graph.onnx", tmp_path / "converted", image_size=28)


def test_the_processor_scales_the_whole_picture(tower: Path):
    processor = BitImageProcessorPil.from_pretrained(tower)
    picture = np.zeros((56, 56, 3), dtype=np.uint8)
    picture[:, :28] = 255
    pixels = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == (3, 28, 28)
    assert (pixels[:, :, 0] > 0).all() and (pixels[:, :, -1] < 0).all()


def test_the_random_tower_has_the_shape_and_no_weight_matrix_of_the_tower(tower: Path, tmp_path: Path):
    for name in ("first", "second"):
        random_vision_tower(tower, tmp_path / name, seed=0)
    random_vision_tower(tower, tmp_path / "other", seed=1)
    original, first, second, other = (
        load_file(folder / "model.safetensors")
        for folder in (tower, *(tmp_path / name for name in ("first", "second", "other")))
    )
    name = "encoder.layer.0.mlp.fc1.weight"
    assert {key: tensor.shape for key, tensor in first.items()} == {key: t.shape for key, t in original.items()}
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name]) and not torch.equal(first[name], original[name])


def test_the_prepared_tower_finds_the_same_thing_in_another_style():
    folder = prepared_folder()
    processor = BitImageProcessorPil.from_pretrained(folder / "vision_tower")
    model = Dinov2Model.from_pretrained(folder / "vision_tower").eval()
    stock = open_stocks(folder / "pictures").train
    centred = []
    for style in ("noto", "twemoji"):
        pictures = []
        for name in ("dog", "car", "guitar", "pineapple", "scissors", "house"):
            picture = stock.picture(name, style).resize((140, 140))
            pictures.append(Image.new("RGB", picture.size, "white"))
            pictures[-1].paste(picture, mask=picture)
        with torch.no_grad():
            states = model(**processor(pictures, return_tensors="pt")).last_hidden_state[:, 0]
        centred.append(torch.nn.functional.normalize(states - states.mean(0)))
    assert (centred[0] @ centred[1].T).argmax(1).tolist() == list(range(6))
