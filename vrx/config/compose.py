"""Composing configurations from `conf/` in this process, as the command does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from vrx.config.released import released_lvlm
from vrx.config.schema import RunConfig
from vrx.config.selector_options import register_controls


def register_schema() -> None:
    """Make the schema known to Hydra, as `run_schema`, selectors without a file, and our resolvers to OmegaConf."""
    OmegaConf.register_new_resolver("vrx.data", _data_path, replace=True)
    OmegaConf.register_new_resolver("vrx.released", released_lvlm, replace=True)
    OmegaConf.register_new_resolver("vrx.world", _world_folder, replace=True)
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    register_controls()


@contextmanager
def composing(conf: Path) -> Iterator[None]:
    """Let `compose_config` find the configuration's groups while the block runs; the command does so by itself."""
    register_schema()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        yield


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration of one run."""
    return hydra.compose("config", overrides=overrides)


def _data_path(relative: str, *otherwise: str | None, _root_: DictConfig) -> str | None:
    """Data below `data_root`; where they are not there, the alternative, such as a data set of the hub.

    Without an alternative it is the path in any case, so that an error names it, or None without `data_root`.
    """
    path = Path(_root_.data_root) / relative if _root_.get("data_root") else None
    if path is not None and (path.exists() or not otherwise):
        return str(path)
    return otherwise[0] if otherwise else None


def _world_folder(defaults: DictConfig, _root_: DictConfig) -> str:
    """The folder of a world below the output root: its name, and a hash where it has other settings than `defaults`.

    Two worlds never have the same folder, so no command replaces the pictures that another one trains on.
    """
    world = _root_.world
    settings = {key: world[key] for key in defaults}
    short_hash = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    name = world.name if settings == dict(defaults) else f"{world.name}-{short_hash}"
    return f"{_root_.runtime.output_root}/data/{name}"
