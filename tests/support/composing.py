"""Runs composed as the command composes them, and whole runs by the real command."""

from __future__ import annotations

from pathlib import Path

from support.forked import run_forked
from support.whole_runs import ENVIRONMENT, command

from vrx.config.compose import compose_config, composing
from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig


def composed(overrides: list[str]) -> RunConfig:
    with composing(CONF):
        return to_run(compose_config(overrides))


def finished(root: Path, *overrides: str) -> Path:
    result = run_forked(command(*overrides), root, ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    return root
