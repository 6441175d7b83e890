"""Which runs a sweep has: checked, named, without those that are refused, and the score runs that they need first."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from vrx.config.errors import NoImportanceScores, UserError
from vrx.config.explain import REFUSALS, explain
from vrx.config.schema import RunConfig
from vrx.config.unused_options import refuse_unused
from vrx.jobs.source_run import run_of_command
from vrx.launch.logging import log
from vrx.runs.layer_selection import selector_label
from vrx.runs.status import RunStatus

LAYER_CHOICE = ("selector=", "selector.reverse=", "layer_count=", "layer_count.")
OF_OTHER_JOBS = ("job=", "prune.", "revert.")
SELECTING_JOBS = ("finetune", "revert", "prune")  # their layers depend on importance scores
Compose = Callable[[list[str]], DictConfig]  # of the overrides of one run


@dataclass(eq=False)
class PlannedRun:
    """One run of a sweep: its overrides, what Hydra composes from them, and its status once it was looked at."""

    overrides: list[str]
    config: DictConfig
    name: str = ""
    run: RunConfig | None = None
    status: RunStatus = RunStatus("to do", "not started")  # noqa: RUF009 (frozen)

    @property
    def task_config(self) -> DictConfig:
        """The composed configuration without Hydra's part, to which it may still refer."""
        if "hydra" not in self.config:
            return self.config
        HydraConfig.instance().set_config(self.config)
        return OmegaConf.masked_copy(self.config, [str(key) for key in self.config if key != "hydra"])

    @property
    def module(self) -> Any:
        """The driver module of the run's job."""
        assert self.run is not None
        return importlib.import_module(f"vrx.jobs.{self.run.job.name}.driver")

    @property
    def asks(self) -> str:
        """What this run asks of its directory, which may be that of others: questions, options, a selector's label.

        A pruning is labelled by its formula both outside the region and anywhere, so `outside_region` asks nothing.
        """
        run = self.run
        assert run is not None
        prune = run.prune and dataclasses.replace(run.prune, outside_region=None)
        return repr((run.benchmark, run.eval, run.score, prune, selector_label(run)))

    def look(self) -> RunStatus:
        """The run's current status; starts nothing."""
        progress: Callable[[RunConfig | None], RunStatus] | None = getattr(self.module, "progress", None)
        return progress(self.run) if progress else RunStatus("to do", "not started")


@dataclass
class Plan:
    """The runs of a sweep that can work, and how many were refused."""

    runs: list[PlannedRun] = field(default_factory=list)
    num_refused: int = 0


def compose_runs(overrides: Sequence[Sequence[str]], compose: Compose) -> list[PlannedRun]:
    """The runs of a sweep with their configurations."""
    bar = tqdm(overrides, desc="composing", unit=" runs", delay=1, leave=False, disable=None)
    return [PlannedRun(list(each), compose(list(each))) for each in bar]


def names(overrides: Sequence[Sequence[str]]) -> list[str]:
    """A name for each run: the overrides that not all runs share, or all where there are no others."""
    own = [[item for item in run if not item.startswith(("sweep=", "sweep."))] for run in overrides]
    shared = functools.reduce(lambda left, right: left & right, map(set, own)) if len(own) > 1 else set()
    return [" ".join([item for item in run if item not in shared] or run) or "the default run" for run in own]


def make_plan(candidates: Sequence[PlannedRun], *, dry_run: bool) -> Plan:
    """Check every run and look how far it is; a refused run is reported with its reason and left out.

    Where the data of a model's own world are missing, they are made first, since a run's identity depends on them;
    a dry run makes nothing.
    """
    from vrx.evaluation.evaluate_run import make_world  # here, as it imports numpy, which `vrx --help` does not need

    plan, refused = Plan(), dict[str, list[str]]()
    bar = tqdm(candidates, desc="checking", unit=" runs", delay=1, leave=False, disable=None)
    for candidate, name in zip(bar, names([each.overrides for each in candidates]), strict=True):
        candidate.name = name
        try:
            refuse_unused(candidate.config.job.name, candidate.overrides)
            candidate.run = run_of_command(candidate.task_config, candidate.overrides)
            if not takes_all_runs(candidate):
                if not dry_run:
                    make_world(candidate.run)
                candidate.status = _status(candidate, dry_run=dry_run)
            plan.runs.append(candidate)
        except REFUSALS as error:
            refused.setdefault(explain(error, candidate.overrides), []).append(name)
    for message, run_names in refused.items():
        plan.num_refused += len(run_names)
        log(f"refused: {_some(run_names)}: {message}")
    return plan


def takes_all_runs(candidate: PlannedRun) -> bool:
    """Whether the job of a run takes all runs of a sweep at once, as job=check does."""
    return hasattr(candidate.module, "together")


def score_overrides(candidates: Sequence[PlannedRun]) -> list[list[str]]:
    """The overrides of the runs that compute the importance scores by which these runs select layers, each once."""
    unique: list[list[str]] = []
    for candidate in candidates:
        selector, job = candidate.config.selector, candidate.config.job.name
        if selector.formula is None or selector.scores is not None or selector.layers is not None:
            continue
        if job in SELECTING_JOBS:
            own = [item for item in candidate.overrides if not item.startswith(LAYER_CHOICE + OF_OTHER_JOBS)]
            command = [*own, "job=score"]
            unique += [command] if command not in unique else []
    return unique


def _status(candidate: PlannedRun, *, dry_run: bool) -> RunStatus:
    try:
        return candidate.look()
    except NoImportanceScores:
        if dry_run:
            return RunStatus("to do", "importance scores are computed first")
        raise


def _some(run_names: Sequence[str]) -> str:
    if len(run_names) == 1:
        return run_names[0]
    shown = "; ".join(run_names[:3])
    return f"{len(run_names)} runs ({shown}{f'; and {len(run_names) - 3} more' if len(run_names) > 3 else ''})"


def refused_error(num_refused: int, num_runs: int) -> UserError:
    return UserError(f"{num_refused} of {num_runs} runs were refused, for the reasons above")
