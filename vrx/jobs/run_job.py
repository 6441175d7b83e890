"""One composed run: checked, typed, and its job called."""

from __future__ import annotations

import importlib
from statistics import fmean

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig
from vrx.config.unused_options import refuse_unused
from vrx.jobs.source_run import run_of_command
from vrx.launch import preemption
from vrx.launch.logging import log
from vrx.launch.node import this_node
from vrx.launch.ranks import end_process
from vrx.launch.workers import on_all_nodes
from vrx.runs.record import read_record
from vrx.runs.run_dir import RunDir


def run_job(composed: DictConfig) -> float | None:
    """Do the job of a composed run. In a multirun, returns `mean_score`, which is what sweepers optimize.

    A run that is asked to stop raises `Preempted`; in a job of SLURM's that submitit started, the job is queued again.
    """
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    refuse_unused(composed.job.name, overrides)
    run = run_of_command(composed, overrides)
    preemption.install()
    try:
        on_all_nodes(resolve_name("job", run.job.name, key="job"), run)
    except preemption.Preempted as stopped:
        if this_node(run.runtime).rank == 0 and preemption.requeue():
            log(f"{stopped}; SLURM has queued this job again")
            end_process(preemption.RESUME)  # submitit must not take this for the job's result
        raise
    return mean_score(run) if is_multirun() and this_node(run.runtime).rank == 0 else None


def is_multirun() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def mean_score(run: RunConfig) -> float | None:
    """The mean of the main scores of a finished run's benchmarks; None for a run without a record."""
    progress = getattr(importlib.import_module(f"vrx.jobs.{run.job.name}.driver"), "progress", None)
    run_dir = progress(run).run_dir if progress else None
    if run_dir is None or not RunDir(run_dir).record.is_file():
        return None
    scores = read_record(RunDir(run_dir).record).scores
    values = [scores[name].value for name in run.benchmark if name in scores]
    return fmean(values) if values else None
