"""One checkpoint of transformers' own class: what is loaded, counted and refused before training starts."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.composing import composed
from support.families import slow_families
from support.family_table import DEPTH, TEXT

from vrx.config.errors import UserError
from vrx.config.resolve import known_names
from vrx.models import fit, native
from vrx.models.lvlm import connector, decoder_layers, layers_path
from vrx.models.native_counts import counted

FAMILIES = slow_families(fast=("qwen3_5",))


@pytest.fixture
def damaged(tiny_family, tmp_path):
    """A copy of a checkpoint with other tensors, as `damaged(change)` makes it."""
    family = tiny_family("qwen2_5_vl")

    def make(change):
        folder = shutil.copytree(family.folder, tmp_path / "damaged")
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return dataclasses.replace(family.config, lvlm=str(folder))

    return make


def test_missing_and_misshapen_tensors_are_refused(damaged):
    def remove(state):
        del state[next(name for name in state if "layers.3.mlp.up_proj" in name)]

    with pytest.raises(UserError, match=r"model.lvlm=.*: missing or of another shape: .*layers.3.mlp.up_proj.weight"):
        native.load_native(damaged(remove))


def test_another_shape_is_refused(damaged):
    def cut(state):
        name = next(name for name in state if "layers.2.mlp.up_proj" in name)
        state[name] = state[name][:5].clone()

    with pytest.raises(UserError, match=r"layers.2.mlp.up_proj.weight"):
        native.load_native(damaged(cut))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "qwen3_vl"}, "model.architecture=qwen3_vl: .* is of type qwen2_5_vl"),
        ({"num_layers": 7}, f"model.num_layers=7: .* has {DEPTH} decoder layers"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tiny_family, changed, message):
    config = dataclasses.replace(tiny_family("qwen2_5_vl").config, **changed)
    with pytest.raises(UserError, match=message):
        native.load_native(config)
    if "architecture" in changed:
        with pytest.raises(UserError, match=message):
            fit.require_fit(config)


def test_code_of_a_repository_is_refused_by_name(tmp_path, tiny_family):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "molmo", "auto_map": {"AutoModel": "m.M"}}))
    config = dataclasses.replace(tiny_family("qwen2_5_vl").config, lvlm=str(tmp_path))
    with pytest.raises(UserError, match="of type molmo; it needs code of its repository, which is never run"):
        fit.require_fit(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.architecture=qwen3_vll"], "no such architecture; did you mean qwen3_vl.*docs/own_model.md"),
        (["model.architecture=minicpmv"], "model.architecture=minicpmv: needs code from its repository"),
        (["model.lvlm=null"], "model.lvlm=null: model.architecture=qwen2_5_vl is one checkpoint; name it"),
        (["model.backbone=b"], "model.backbone=b: valid with model.architecture=llava"),
        (["job=pretrain", "train.projector_lr=2e-4"], "job=pretrain: valid with model.architecture=llava"),
    ],
)
def test_settings_of_another_kind_of_model_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        composed(["model=qwen2.5-vl-3b", *overrides])


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_those_of_the_model(tiny_family, name):
    family = tiny_family(name)
    model, row = family.loaded, family.row
    counts = json.loads(counted(family.folder, name))
    assert counts["parameters"] == model.num_parameters()
    assert counts["connector"] == sum(part.numel() for part in connector(model, row.connector).values())
    assert len(counts["kinds"]) == len(decoder_layers(model)) == counts["backbone"]["num_layers"]
    linears = counts["backbone"]["layers"][0]
    layer = model.get_submodule(f"{layers_path(model)}.0")
    for path, (inputs, outputs) in linears.items():
        assert layer.get_submodule(path).weight.shape == (outputs, inputs)
    in_decoder = sum(part.numel() for part in model.get_decoder().parameters())
    assert counts["backbone"]["total"] - in_decoder in (0, TEXT["vocab_size"] * TEXT["hidden_size"])


def test_every_row_has_a_checkpoint_in_these_tests():
    from support.family_checkpoints import FAMILIES as CHECKPOINTS

    assert set(known_names("architecture")) == CHECKPOINTS.keys()


def test_dtype_is_the_wanted_one(tiny_family):
    family = tiny_family("qwen2_5_vl")
    assert native.load_native(family.config, dtype=torch.bfloat16).dtype == torch.bfloat16
