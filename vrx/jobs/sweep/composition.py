"""The configurations of a sweep's runs, each composed once."""

from __future__ import annotations

from hydra.types import HydraContext
from omegaconf import DictConfig
from tqdm import tqdm


class Composer:
    """Composes the runs of a multirun.

    Hydra composes every run twice: its sweeper to check the overrides, the launcher to start the run. At 0.3 s each,
    this is most of the time before a sweep starts. What the sweeper composes, with a progress bar, is kept here.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        """Make the sweeper of `context` compose by this object. config: that of the whole multirun."""
        loader = context.config_loader
        self._load, self._config = loader.load_sweep_config, config
        self._kept: dict[tuple[str, ...], DictConfig] = {}
        self._bar: tqdm | None = None
        loader.load_sweep_config = self._check

    def compose(self, overrides: list[str]) -> DictConfig:
        """The configuration of one run, Hydra's part included. The caller may change it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        kept = self._kept.pop(tuple(overrides), None)
        return self._load(self._config, overrides) if kept is None else kept

    def _check(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        if self._bar is None:
            self._bar = tqdm(desc="composing", unit=" runs", delay=1, leave=False, disable=None)
        self._kept[tuple(sweep_overrides)] = composed = self._load(master_config, sweep_overrides)
        self._bar.update()
        return composed
