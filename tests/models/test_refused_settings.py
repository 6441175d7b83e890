"""Model folders that say more, or other things, than what is loaded are refused by file and key, with and without
their weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.layouts import FAMILY, FOLDER, original, same
from support.official import FAMILIES, model_config

from vrx.config.errors import UserError
from vrx.config.paths import PACKAGE
from vrx.config.schema import ModelConfig
from vrx.data.images.processing import Pixels
from vrx.models import loading
from vrx.models.lora_checkpoint import Adapter
from vrx.models.lvlm import PROJECTOR

TINY = PACKAGE / "tiny" / "weights"


def edited(name: str = "config.json", **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return edit


def written(name: str, text: str, *, without: str = "config.json.bak") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / without).unlink(missing_ok=True)
        (folder / name).write_text(text)

    return edit


def other_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return edit


WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
IN_PARTS: dict[str, tuple[str, Callable[[Path], None], str]] = {  # the part, what happens to it, what is told
    "index is a list": ("backbone", written(INDEX, "[]", without=WEIGHTS), r"index\.json: must be a JSON object"),
    "index of a number": ("backbone", written(INDEX, '{"weight_map": {"a": 5}}', without=WEIGHTS), "has no weight_map"),
    "activation": ("backbone", edited(hidden_act="evil"), r"model\.backbone=.*: cannot be loaded: KeyError: 'evil'"),
    "vocabulary": ("backbone", edited(vocab_size=10**12), r"config\.json: vocab_size=1000000000000: must be"),
    "larger vocabulary": ("backbone", edited(vocab_size=10**7), "of another shape: lm_head.weight, model.embed"),
    "fewer layers": ("backbone", edited(num_hidden_layers=30), r"describes a model without model\.layers\.30"),
    "more layers": ("backbone", edited(num_hidden_layers=40), r"missing or of another shape: model\.layers\.32"),
    "a boolean size": ("backbone", edited(hidden_size=True), r"config\.json: hidden_size=True: must be"),
    "no size": ("backbone", edited(hidden_size=None), r"config\.json: hidden_size is missing"),
    "no heads": ("backbone", edited(num_attention_heads=0), r"config\.json: num_attention_heads=0: must be"),
    "text for a number": ("backbone", edited(rms_norm_eps="a"), r"model\.backbone=.*: cannot be loaded"),
    "config is a list": ("backbone", written("config.json", "[]"), r"config\.json: must be a JSON object"),
    "nested": ("backbone", written("config.json", "[" * 100_000), r"config\.json: not valid JSON: nested too deep"),
    "no numbers": (
        "backbone",
        other_tensors(lambda tensors: [tensor.fill_(torch.nan) for tensor in tensors.values()]),
        "has weights that are infinite or no numbers",
    ),
    "tensors too many": (
        "backbone",
        other_tensors(lambda tensors: tensors.update({"model.layers.0.more": torch.ones(1)})),
        r"describes a model without model\.layers\.0\.more",
    ),
    "Git LFS": (
        "backbone",
        written(WEIGHTS, "version https://git-lfs.github.com/spec/v1"),
        r"safetensors: a pointer of",
    ),
    "no preprocessor": (
        "vision_tower",
        lambda f: (f / "preprocessor_config.json").unlink(),
        "has no preprocessor_config",
    ),
    "broken preprocessor": (
        "vision_tower",
        written("preprocessor_config.json", "{"),
        r"preprocessor_config\.json: not",
    ),
    "other pictures": ("vision_tower", edited("preprocessor_config.json", size="x"), "size dict: x|crop_size is x"),
    "a mean of nothing": ("vision_tower", edited("preprocessor_config.json", image_mean=None), "cannot be used"),
    "divided by 0": (
        "vision_tower",
        edited("preprocessor_config.json", image_std=[0, 0, 0]),
        "cannot be used|all finite",
    ),
    "no patches": ("vision_tower", edited(patch_size=0), r"config\.json: patch_size=0: must be"),
    "truncated projector": (
        "projector",
        written("projector.safetensors", "x" * 20),
        r"projector\.safetensors: damaged",
    ),
}


@pytest.mark.parametrize("case", IN_PARTS)
def test_a_part_that_says_more_than_is_loaded_is_refused(tmp_path: Path, make_run: Callable[..., Any], case: str):
    part, edit, why = IN_PARTS[case]
    shutil.copytree(TINY / part, tmp_path / part)
    edit(tmp_path / part)
    model = dataclasses.replace(make_run().model, **{part: str(tmp_path / part)})
    reads_weights = case == "no numbers"
    with pytest.raises(UserError, match=why):
        Pixels(model)
        loading.load(model, on_meta=not reads_weights)


def test_a_list_of_tensors_is_no_projector(tmp_path: Path, make_run: Callable[..., Any]):
    torch.save([torch.zeros(1)], tmp_path / "mm_projector.bin")
    with pytest.raises(UserError, match=r"mm_projector\.bin: damaged or not a file of tensors \(holds list"):
        loading.load(dataclasses.replace(make_run().model, projector=str(tmp_path)), on_meta=True)


OFFICIAL = {  # settings of LLaVA's own code, and what is told
    "mm_use_im_start_end": (True, r"config\.json: mm_use_im_start_end=True: valid is False"),
    "mm_use_im_patch_token": (True, "mm_use_im_patch_token=True: valid is False"),
    "mm_projector_type": ("linear", "mm_projector_type=linear: valid is mlp2x_gelu"),
    "mm_patch_merge_type": ("spatial_unpad", "mm_patch_merge_type=spatial_unpad: valid is flat"),
    "mm_vision_select_feature": ("cls_patch", r"model\.vision_feature_select_strategy=default: .* made with full"),
    "mm_vision_select_layer": (-1, r"model\.vision_feature_layer=-2: .* was made with -1"),
    "mm_resampler_type": ("qformer", "mm_resampler_type=qformer: a setting of no meaning here"),
    "image_grid_pinpoints": ([[336, 672]], "image_grid_pinpoints=.*: a setting of no meaning here"),
    "use_s2": (True, "use_s2=True: valid is False"),
    "image_aspect_ratio": ("anyres", "image_aspect_ratio=anyres: valid is pad, square"),
}


@pytest.mark.parametrize("folder", ["llava-tiny-v1.5", "llava-tiny-v1.5-lora", "llava-tiny-pretrain"])
def test_settings_of_the_official_code_that_are_not_obeyed_are_refused(tmp_path: Path, folder: str):
    shutil.copytree(FOLDER / folder, tmp_path / folder)
    model = model_config(FAMILY, None)
    key = "projector" if folder == "llava-tiny-pretrain" else "lvlm"
    model = dataclasses.replace(model, **{key: str(tmp_path / folder)}, tokenizer=model.tokenizer or model.backbone)
    loading.load(model, on_meta=True)
    before = (tmp_path / folder / "config.json").read_text()
    for name, (value, why) in OFFICIAL.items():
        edited(**{name: value})(tmp_path / folder)
        with pytest.raises(UserError, match=why):
            loading.load(model, on_meta=True)
        (tmp_path / folder / "config.json").write_text(before)
    edited(image_aspect_ratio="square")(tmp_path / folder)
    if key == "projector":  # the first stage's pictures are not padded
        loading.load(model, on_meta=True)
    else:
        with pytest.raises(UserError, match=r"model\.image_aspect_ratio=pad: .* was made with square"):
            loading.load(model, on_meta=True)


# ---- sound folders


def with_whole_llava(tmp_path: Path) -> ModelConfig:
    """LLaVA's LoRA output, tuned on a whole LLaVA."""
    folder = tmp_path / "lora"
    shutil.copytree(FOLDER / "llava-tiny-v1.5-lora", folder)
    edited("adapter_config.json", base_model_name_or_path="liuhaotian/llava-tiny-v1.5")(folder)
    config = model_config(FAMILY, None)
    backbone, tokenizer = str(FOLDER / "llava-tiny-v1.5"), config.tokenizer or config.backbone
    return dataclasses.replace(config, lvlm=str(folder), backbone=backbone, tokenizer=tokenizer)


def test_lora_of_a_whole_llava_is_merged_into_it(tmp_path: Path):
    config = with_whole_llava(tmp_path)
    loading.load(config, on_meta=True)
    ours, base = loading.load(config).state_dict(), original().state_dict()
    beside: dict[str, Any]
    adapter, beside = Adapter(tmp_path / "lora"), loading.tensors_beside_adapter(tmp_path / "lora")
    for name, tensor in ours.items():
        expected = base[name] + adapter[name] if name in adapter else base[name]
        assert torch.allclose(tensor, beside.get(name, expected), atol=1e-6), name
    assert any(name.startswith(PROJECTOR) for name in beside)
    (tmp_path / "lora" / "non_lora_trainables.bin").unlink()  # its projector was frozen
    frozen = loading.load(config).state_dict()
    assert all(torch.equal(frozen[name], base[name]) for name in base if name.startswith(PROJECTOR))


@pytest.mark.parametrize("form", ["an index is left over", "a file of old PyTorch"])
def test_other_forms_of_sound_weights_are_read(tmp_path: Path, form: str):
    config = model_config(FAMILY, None)
    shutil.copytree(config.backbone, tmp_path / "vicuna-tiny")
    file = tmp_path / "vicuna-tiny" / "pytorch_model.bin"
    if form == "a file of old PyTorch":
        tensors = torch.load(file, weights_only=True)
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    else:
        file.with_name("pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001.bin"}}')
    moved = dataclasses.replace(config, backbone=str(tmp_path / "vicuna-tiny"))
    assert same(loading.load(moved), loading.load(config))
    assert FAMILIES[FAMILY]["backbone"] == "vicuna-tiny"
