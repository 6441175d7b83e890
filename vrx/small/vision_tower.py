"""DINOv2 ViT-S/14 from an ONNX graph into a folder laid out as on the Hub, and a random tower of its shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model
from transformers.utils import logging

from vrx.config.errors import UserError

PREFIX = "backbone."  # of the tower's tensors in the graph


def convert_vision_tower(onnx_file: Path, folder: Path, *, image_size: int) -> None:
    """Take the tower out of an ONNX graph; its image processor makes squares of `image_size` pixels.

    The graph keeps biases, norms and embeddings under their names. The weights of linear layers have lost theirs: each
    is found by the bias that is added to its product. Position embeddings are split into the class token's and the
    others. Against the graph the hidden states agree to 1e-5.
    """
    import onnx  # type: ignore[import-not-found]  # of the extra [small]
    from onnx import numpy_helper  # type: ignore[import-not-found]

    graph = onnx.load(str(onnx_file)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {name.removeprefix(PREFIX): value for name, value in constants.items() if name.startswith(PREFIX)}
    state |= _linear_weights(graph, constants)
    state["embeddings.position_embeddings"] = _positions(graph, constants, state["embeddings.cls_token"].shape[-1])
    width = state["embeddings.cls_token"].shape[-1]
    state["embeddings.mask_token"] = np.zeros((1, width), dtype=np.float32)  # of pre-training alone, not in the graph
    save_tower(_config(state), {name: torch.from_numpy(value.copy()) for name, value in state.items()}, folder)
    save_processor(folder, image_size=image_size)


def random_vision_tower(tower: Path, folder: Path, *, seed: int = 0) -> None:
    """A tower of the same shape with fresh weights: what a projector and tuning reach without a pretrained tower."""
    torch.manual_seed(seed)
    model = Dinov2Model(Dinov2Config.from_pretrained(tower))
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    BitImageProcessorPil.from_pretrained(tower).save_pretrained(folder)


def save_tower(config: Dinov2Config, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write configuration and weights by the Hub's names; `UserError` for a state that does not fill the model."""
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = ["Dinov2Model"]
    config.save_pretrained(folder)
    tensors = {name: tensor.float().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tower: Any = Dinov2Model  # whose result is a pair here
    logging.disable_progress_bar()
    _, loading_info = tower.from_pretrained(folder, output_loading_info=True)
    misfits = {key: sorted(map(str, names)) for key, names in loading_info.items() if names}
    if misfits:
        raise UserError(f"vision tower: {', '.join(f'{key} {names[0]}' for key, names in misfits.items())}")


def save_processor(folder: Path, *, image_size: int) -> None:
    """The image processor of DINOv2, which here scales the whole picture instead of cutting its middle out."""
    side = {"height": image_size, "width": image_size}
    processor = BitImageProcessorPil(
        size=side,
        crop_size=side,
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(folder)


def _linear_weights(graph: Any, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of the tower's linear layers, (out, in), by their names in transformers."""
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    weights = {}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants or node.output[0] not in adds:
            continue
        bias = next((name for name in adds[node.output[0]].input if name in constants), "")
        if bias.startswith(PREFIX):
            name = bias.removeprefix(PREFIX).removesuffix(".bias") + ".weight"
            weights[name] = constants[node.input[1]].T
    return weights


def _positions(graph: Any, constants: dict[str, np.ndarray], width: int) -> np.ndarray:
    """The position embeddings, (1, 1 + patches, width), of which the graph keeps the class token's apart."""
    unnamed = [value for name, value in constants.items() if name.startswith("onnx::") and value.ndim == 3]
    embeddings = sorted((value for value in unnamed if value.shape[0] == 1 and value.shape[-1] == width), key=np.size)
    if len(embeddings) != 2 or embeddings[0].shape[1] != 1:
        raise UserError(f"vision tower: the graph has {len(embeddings)} unnamed embeddings, not two of positions")
    return np.concatenate(embeddings, axis=1)


def _config(state: dict[str, np.ndarray]) -> Dinov2Config:
    projection = state["embeddings.patch_embeddings.projection.weight"]
    num_positions = state["embeddings.position_embeddings"].shape[1] - 1
    hidden = projection.shape[0]
    return Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=sum(name.endswith("norm1.weight") for name in state),
        num_attention_heads=hidden // 64,
        image_size=round(num_positions**0.5) * projection.shape[-1],
        patch_size=projection.shape[-1],
        mlp_ratio=state["encoder.layer.0.mlp.fc1.weight"].shape[0] // hidden,
        layer_norm_eps=1e-6,
        dtype="float32",
    )
