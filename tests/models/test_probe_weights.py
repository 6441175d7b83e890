"""Weight scores are those of the changed layers."""

from __future__ import annotations

import math

import pytest
import torch
from support.small_models import small_backbone, small_lvlm, write

from vrx.config.schema import LoraConfig
from vrx.models import probe
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.lora import apply_lora
from vrx.selectors.formulas import FORMULAS


@pytest.mark.parametrize("kind", ["safetensors", "sharded bin"])
def test_weight_scores_measure_the_change_of_each_layer(kind, tmp_path):
    backbone, tuned = small_backbone(seed=1), small_backbone(seed=1)
    with torch.no_grad():
        for parameter in tuned.model.layers[1].parameters():
            parameter.mul_(1.1)
        for parameter in tuned.model.layers[2].parameters():
            parameter.mul_(-1)
    lvlm = small_lvlm()
    lvlm.model.language_model = tuned.model
    lvlm.save_pretrained(tmp_path / "lvlm")
    stored = write(backbone.state_dict(), tmp_path / "backbone", kind)
    scores = probe.weight_scores(LazyStateDict(tmp_path / "lvlm"), stored)
    for name in scores:
        angle = name.startswith("angular")
        assert scores[name] == pytest.approx([0, 0 if angle else 0.1, 1 if angle else 2, 0], abs=1e-5), name
    assert probe.weight_scores(lvlm.state_dict(), backbone.state_dict()) == scores


def test_unmerged_lora_is_refused():
    tuned = apply_lora(small_lvlm(), (1,), LoraConfig(r=2)).get_base_model()
    with pytest.raises(ValueError, match=r"decoder layer 1: only the model has .*lora_A"):
        probe.weight_scores(tuned.state_dict(), small_backbone().state_dict())


def test_merged_lora_changes_only_its_layers():
    tuned = apply_lora(small_lvlm(), (1, 3), LoraConfig(r=2))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    for name, scores in probe.weight_scores(tuned.merge_and_unload().state_dict(), small_lvlm().state_dict()).items():
        assert [score > 0 for score in scores] == [False, True, False, True], name


def test_layer_without_a_finite_score_is_refused():
    state = small_backbone().state_dict()
    broken = {**state, "model.layers.2.mlp.up_proj.weight": state["model.layers.2.mlp.up_proj.weight"] * math.nan}
    with pytest.raises(ValueError, match=r"without a finite score: 2 \(nan\)"):
        probe.weight_scores(broken, state)


def test_the_names_of_all_scores_are_known_without_torch():
    assert set(FORMULAS) == {*probe.ACTIVATION_SCORES, *probe.WEIGHT_SCORES}
