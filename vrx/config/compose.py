"""Composing configurations from `conf/` in this process, as the command does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from vrx.config.schema import RunConfig


def register_schema() -> None:
    """Make the schema known to Hydra, as the configuration `run_schema`."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)


@contextmanager
def composing(conf: Path) -> Iterator[None]:
    """Let `compose_config` find the configuration's groups while the block runs; the command does so by itself."""
    register_schema()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        yield


def compose_config(overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    """The configuration of one run; `with_hydra` keeps Hydra's own part."""
    return hydra.compose("config", overrides=overrides, return_hydra_config=with_hydra)
