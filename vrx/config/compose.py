"""From one command to the runs of its sweep: every combination of what its overrides, and the sweep's file, list."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

DRY = {f"sweep.dry_run={word}" for word in ("true", "1", "yes", "on")}


def is_sweep(arguments: list[str]) -> bool:
    """Whether these command-line arguments ask for several runs, or for what a command would run, and for nothing of
    Hydra's own such as `--help`."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    named = any(argument.startswith("sweep=") and argument != "sweep=none" for argument in arguments)
    dry = any(argument.lower() in DRY for argument in arguments)  # of one run too: it must start nothing
    named = named or dry or "hydra.mode=MULTIRUN" in arguments
    one = "hydra.mode=RUN" in arguments  # a run of a sweep, started by it
    return not one and flags <= {"-m", "--multirun"} and (bool(flags) or named)


@contextmanager
def composing(conf: Path) -> Iterator[None]:
    """Let `composed` find the configuration's groups while the block runs."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        yield


def compose_config(overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    return hydra.compose("config", overrides=overrides, return_hydra_config=with_hydra)


def is_local(overrides: list[str]) -> bool:
    """Whether the runs are started on this machine, and not by a launcher such as `submitit_slurm`."""
    return not any(item.startswith("hydra/launcher=") and item != "hydra/launcher=basic" for item in overrides)


def expand_sweep(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run: all combinations of the values listed, as Hydra's own sweeper makes them.

    Lists on the command line take the place of those in the sweep's file (`hydra.sweeper.params`).
    """
    fixed = [item.input_line or "" for item in _parse(overrides) if not item.is_sweep_override()]
    params = compose_config(fixed, with_hydra=True).hydra.sweeper.params or {}
    values: dict[str, list[str]] = {}
    for item in _parse([*(f"{key}={value}" for key, value in params.items()), *overrides]):
        key = item.get_key_element()
        if item.is_sweep_override():
            values[key] = [f"{key}={value}" for value in item.sweep_string_iterator()]
        else:
            values[key] = [item.input_line or ""]
    return [list(combination) for combination in itertools.product(*values.values())]


def _parse(overrides: list[str]):
    return OverridesParser.create().parse_overrides(overrides)
