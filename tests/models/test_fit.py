"""Parts of an LVLM that do not fit together are refused before weights are loaded."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.dinov2_models import dinov2_model
from support.official import FAMILIES, model_config

from vrx.config.errors import UserError
from vrx.models import fit, loading


def refused(config) -> str:
    with pytest.raises(UserError) as error:
        fit.require_fit(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_official_parts_fit(family):
    fit.require_fit(model_config(family, None))


@pytest.mark.parametrize(("strategy", "number"), [("default", 16), ("full", 17)])
def test_number_of_image_tokens_is_what_the_tower_yields(tmp_path, strategy, number):
    config = dinov2_model(tmp_path, strategy=strategy)
    fit.require_fit(dataclasses.replace(config, num_image_tokens=number))
    message = refused(dataclasses.replace(config, num_image_tokens=number + 1))
    assert message.startswith(f"model.num_image_tokens={number + 1}: ") and f"yields {number} for" in message


def test_tower_of_fixed_size_refuses_images_of_another_size(tmp_path):
    config = model_config("llava_official", None)
    tower = Path(config.vision_tower)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((tower / name).read_text())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"crop_size": 42}))
    message = refused(dataclasses.replace(config, vision_tower=str(tmp_path)))
    assert "images of 42 x 42 pixels, the tower takes 56 x 56" in message


def test_kind_of_tower_layer_and_processor_are_checked(tmp_path):
    config = dinov2_model(tmp_path)
    assert "is a tower of type dinov2" in refused(dataclasses.replace(config, image_processor="clip"))
    assert "valid are -5 to 4" in refused(dataclasses.replace(config, vision_feature_layer=-6))
    (tmp_path / "tower" / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refused(config)


def test_projector_of_another_width_is_refused(tmp_path):
    config = dinov2_model(tmp_path)
    shapes = fit.projector_shapes(config)
    assert shapes is not None
    shapes["linear_1.weight"] = (shapes["linear_1.weight"][0], 24)
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    save_file(state, tmp_path / "projector" / "projector.safetensors")
    assert refused(config).startswith(f"model.projector={tmp_path / 'projector'}: has ")


def test_misfits_are_refused_before_any_weights_are_loaded(tmp_path):
    config = dataclasses.replace(dinov2_model(tmp_path), num_image_tokens=5)
    (tmp_path / "tower" / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(UserError, match=r"model\.num_image_tokens=5"):
        loading.load(config)


def test_official_projector_of_another_width_is_refused_before_the_backbone_is_loaded(tmp_path):
    config = model_config("llava_official", None)
    for folder in ("backbone", "projector"):
        (tmp_path / folder).mkdir()
    (tmp_path / "backbone" / "config.json").write_text((Path(config.backbone) / "config.json").read_text())
    state = {"model.mm_projector.0.weight": torch.zeros(24, 16), "model.mm_projector.0.bias": torch.zeros(24)}
    torch.save(state, tmp_path / "projector" / "mm_projector.bin")
    parts = {name: str(tmp_path / name) for name in ("backbone", "projector")}
    config = dataclasses.replace(config, tokenizer=config.backbone, **parts)
    with pytest.raises(UserError, match=r"model\.projector=.*: has .*, this tower and backbone need"):
        loading.load(config)


def test_the_check_needs_no_torch():
    code = "import vrx.models.fit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
