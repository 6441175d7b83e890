"""The runs of a sweep, as Hydra's own sweeper makes them."""

from __future__ import annotations

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from vrx.config.compose import compose_config, composing
from vrx.config.frozen import to_run
from vrx.config.paths import CONF
from vrx.config.schema import RunConfig


def sweep_overrides(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run; must be called while composing."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [item.input_line or "" for item in parsed if not item.is_sweep_override()]
    params = hydra.compose("config", overrides=fixed, return_hydra_config=True).hydra.sweeper.params or {}
    lines = [*(f"{key}={value}" for key, value in params.items()), *overrides]
    (runs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(lines), None)
    return [list(run) for run in runs]


def sweep_runs(*overrides: str, containing: str = "") -> list[RunConfig]:
    """The runs of a sweep; of those only that have the override `containing`."""
    with composing(CONF):
        chosen = [run for run in sweep_overrides(list(overrides)) if not containing or containing in run]
        return [to_run(compose_config(run)) for run in chosen]
