"""A small LVLM with a DINOv2 tower on disk: random weights, the small official Vicuna as backbone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.official import model_config
from transformers import Dinov2Config, Dinov2Model

from vrx.models.fit import projector_shapes

SIDE, PATCH = 28, 7  # of a processed image, which differs from the image size of the position embeddings
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def write_tower(folder: Path, *, side: int = SIDE, trained_side: int = 35, **changes) -> Path:
    """A tower in the hub's layout, with a processor that scales to `side` + 8 pixels and crops to `side`."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
    config = Dinov2Config(image_size=trained_side, patch_size=PATCH, initializer_range=0.2, **sizes, **changes)
    Dinov2Model(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "BitImageProcessor",
        "crop_size": {"height": side, "width": side},
        "size": {"shortest_edge": side + 8},
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        **dict.fromkeys(("do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), True),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def dinov2_model(folder: Path, *, strategy: str = "default", layer: int = -2, **tower):
    """The configuration of an LVLM written below a folder: tower, projector, and the official small backbone."""
    write_tower(folder / "tower", **tower)
    number = (tower.get("side", SIDE) // PATCH) ** 2 + (strategy == "full")
    config = dataclasses.replace(
        model_config("llava_official", None),
        vision_tower=str(folder / "tower"),
        projector=str(folder / "projector"),
        image_processor="dinov2",
        vision_feature_select_strategy=strategy,
        vision_feature_layer=layer,
        num_image_tokens=number,
    )
    (folder / "projector").mkdir(exist_ok=True)
    shapes = projector_shapes(config)
    assert shapes is not None
    state = {name: 0.2 * torch.randn(*shape) for name, shape in shapes.items()}
    save_file(state, folder / "projector" / "projector.safetensors")
    return config
