"""The run as a file: what a worker starts from, and what is read back later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vrx.config.schema import RunConfig
from vrx.config.validate import validate


def to_run(composed: Any) -> RunConfig:
    """The typed, checked run of a composed configuration (or of a frozen file)."""
    plain = OmegaConf.to_container(composed)  # untyped, so that the merge refuses a key which `+` put in
    run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), plain))
    assert isinstance(run, RunConfig)
    validate(run)
    return run


def load_frozen(path: Path) -> RunConfig:
    """Read a frozen run back."""
    return to_run(OmegaConf.load(path))


def freeze(run: RunConfig) -> str:
    """The run as YAML, every value resolved: what a worker starts from."""
    return OmegaConf.to_yaml(OmegaConf.structured(run))
