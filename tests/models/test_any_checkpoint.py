"""Whatever the files of a model's folder hold, they are read or refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from support.mutations import mutated
from support.official import GOLDEN, model_config

from vrx.config.errors import UserError
from vrx.models import fit
from vrx.models.adapter_config import read_adapter_config, require_same_targets
from vrx.models.lazy_state_dict import LazyStateDict

OFFICIAL = GOLDEN / "llava_official"
TENSORS = save({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)})
LENGTH = struct.unpack("<Q", TENSORS[:8])[0]
HEADER, BODY = json.loads(TENSORS[8 : 8 + LENGTH]), TENSORS[8 + LENGTH :]
INDEX = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}
ADAPTER = json.loads((OFFICIAL / "llava-tiny-v1.5-lora" / "adapter_config.json").read_text())
TOWER = "clip-vit-tiny-patch14-56"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


def read_all(folder: Path) -> None:
    """Read every tensor, or be refused with the name of the folder."""
    try:
        stored = LazyStateDict(folder)
        assert all(tuple(stored[name].shape) == shape for name, shape in stored.shapes.items())
    except UserError as error:
        assert str(folder) in str(error)
        assert "\n" not in str(error)


@settings(max_examples=80)
@given(header=mutated(HEADER), rest=st.binary(max_size=20), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_file_of_tensors_is_read_or_refused_by_name(folder: Path, header: Any, rest: bytes, length: int | None):
    text = json.dumps(header).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + text + BODY + rest)
    read_all(folder)


@settings(max_examples=60)
@given(data=st.data())
def test_any_index_of_shards_is_read_or_refused_by_name(folder: Path, data: st.DataObject):
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model-1.safetensors").write_bytes(TENSORS)
    index = json.dumps(data.draw(mutated(INDEX))).encode() if data.draw(st.booleans()) else data.draw(st.binary())
    (folder / "model.safetensors.index.json").write_bytes(index)
    read_all(folder)


@settings(max_examples=80)
@given(config=mutated(ADAPTER))
def test_any_settings_of_an_adapter_are_read_or_refused_by_name(folder: Path, config: Any):
    (folder / "adapter_config.json").write_text(json.dumps(config))
    try:
        require_same_targets(folder, read_adapter_config(folder), ["model.layers.1.self_attn.q_proj"])
    except UserError as error:
        assert str(folder) in str(error)


@settings(max_examples=50)
@given(data=st.data())
def test_any_settings_of_a_tower_and_a_backbone_fit_or_are_refused(folder: Path, data: st.DataObject):
    config = model_config("llava_official", None)
    changed = data.draw(
        st.sampled_from([f"{TOWER}/config.json", f"{TOWER}/preprocessor_config.json", "vicuna-tiny/config.json"])
    )
    for part in (TOWER, "vicuna-tiny"):
        shutil.copytree(OFFICIAL / part, folder / part, dirs_exist_ok=True)
    good = json.loads((folder / changed).read_text())
    (folder / changed).write_text(json.dumps(data.draw(mutated(good))))
    try:
        fit.require_fit(
            dataclasses.replace(config, vision_tower=str(folder / TOWER), backbone=str(folder / "vicuna-tiny"))
        )
    except UserError as error:
        assert "\n" not in str(error)
        assert str(folder) in str(error)
