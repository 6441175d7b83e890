"""Layers are matched by name in every layout."""

from __future__ import annotations

import pytest
import torch
from support.small_models import (
    same,
    small_backbone,
    small_lvlm,
    snapshot,
    write,
)

from vrx.config.errors import UserError
from vrx.models import lazy_state_dict, surgery
from vrx.models.layer_matching import match_layers


@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_stored_checkpoint_equals_the_saved_state(kind, tmp_path):
    state = small_backbone(seed=1).state_dict()
    stored = write(state, tmp_path / "backbone", kind)
    assert same(dict(stored), state)
    assert len(stored) == len(state)
    assert stored.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
    model, other = small_lvlm(), small_lvlm()
    surgery.revert_layers(model, stored, (1, 2))
    surgery.revert_layers(other, state, (1, 2))
    assert same(snapshot(model), snapshot(other))


def test_layers_match_in_every_layout_of_names(tmp_path):
    lvlm = small_lvlm()
    names = lvlm.state_dict()
    lvlm.save_pretrained(tmp_path / "lvlm")  # language_model.model.layers.N
    stored = lazy_state_dict.LazyStateDict(tmp_path / "lvlm")
    assert any(name.startswith("language_model.model.layers.") for name in stored)
    bare = lvlm.model.language_model.state_dict()
    backbone = {f"model.{name}": tensor for name, tensor in bare.items()}
    for other in (stored, bare, backbone):
        for match in match_layers(names, other):
            assert len(match) == 9
            assert all(torch.equal(names[ours], other[theirs]) for ours, theirs in match.values())


def test_buffers_of_old_checkpoints_are_ignored():
    model = small_lvlm()
    state = small_backbone().state_dict()
    old = {**state, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
    assert match_layers(model.state_dict(), old) == match_layers(model.state_dict(), state)


def test_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        lazy_state_dict.LazyStateDict(tmp_path)
