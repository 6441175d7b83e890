"""The configuration that a sweep hands to the process of a run."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from vrx.config.compose import composing
from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig
from vrx.jobs.sweep.child import read_config

OVERRIDES = [
    "seed=3",
    "train.lr=1e-5",
    "instructions.path='a/ü: \"1e3\".json'",
    "+hydra.callbacks.note._target_=a.Note",
]


@pytest.mark.parametrize("overrides", [[], OVERRIDES, ["~benchmark.tiny_gqa", "job=prune"]], ids=" ".join)
def test_a_configuration_survives_the_way_to_the_process_of_its_run(tmp_path: Path, overrides: list[str]):
    with composing(CONF):
        composed = hydra.compose("config", overrides=overrides, return_hydra_config=True)
    path = tmp_path / "0.yaml"
    path.write_text(OmegaConf.to_yaml(composed), encoding="utf-8")
    config = read_config(path)
    assert OmegaConf.to_container(config) == OmegaConf.to_container(composed)
    assert (OmegaConf.get_type(config), OmegaConf.get_type(config, "hydra")) == (RunConfig, HydraConf)
    HydraConfig.instance().set_config(config)
    assert HydraConfig.get().overrides.task == composed.hydra.overrides.task
    names = [str(key) for key in config if key != "hydra"]
    assert to_run(OmegaConf.masked_copy(config, names)) == to_run(OmegaConf.masked_copy(composed, names))
