"""Runs of a command line, and of the default run with some keys set."""

from __future__ import annotations

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from vrx.config.compose import compose_config, composing
from vrx.config.frozen import freeze, to_run
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig


@cache
def composed(*overrides: str) -> Any:
    """What Hydra makes of a command line."""
    with composing(CONF):
        return compose_config(list(overrides))


def run_of(*overrides: str) -> RunConfig:
    return to_run(composed(*overrides))


@cache
def default() -> str:
    return freeze(run_of("benchmark=tiny_gqa"))


def given_keys(*assignments: str) -> RunConfig:
    """The default run with some keys set, without Hydra, which takes its time."""
    values = OmegaConf.create(default())
    del values["schema_version"]
    return to_run(OmegaConf.merge(values, OmegaConf.from_dotlist(list(assignments))))
