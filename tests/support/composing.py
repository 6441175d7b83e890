"""Runs composed as the command composes them, and whole runs by the real command."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from support.whole_runs import ENVIRONMENT, command

from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig


def composed(overrides: list[str]) -> RunConfig:
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run(compose("config", overrides=overrides))


def finished(root: Path, *overrides: str) -> Path:
    result = subprocess.run(
        command(*overrides), cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr
    return root
