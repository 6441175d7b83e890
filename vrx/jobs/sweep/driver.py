"""`vrx sweep=…`, `vrx -m …`: every run of a sweep, and at its end the table or figure it makes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vrx.config.compose import compose_config, expand_sweep
from vrx.config.errors import NoImportanceScores, RunFailed, UserError
from vrx.config.frozen import to_run
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.launch.gpus import gpu_numbers
from vrx.launch.multi_node import this_node
from vrx.launch.sweep_runner import Job, Progress, distinct, listing, run_all
from vrx.report.paper import load_paper
from vrx.report.paper_artifacts import artifact_as_text

Composed = tuple[list[str], Any]  # the overrides of a run and what Hydra makes of them


def sweep(overrides: list[str], report: Callable[[Exception], None], refusals: tuple[type[Exception], ...]) -> None:
    """Bring every run of a sweep to its end. One that is refused or fails is reported and does not stop the others.

    Scores by which runs select their layers are taken first: which run is which depends on them.
    """
    wanted: list[Composed] = []
    for job_overrides in expand_sweep(overrides):
        try:
            wanted.append((job_overrides, compose_config(job_overrides)))
        except refusals as error:
            report(error)
    first = scoring(wanted)
    if first and not wanted[0][1].sweep.dry_run:
        try:
            _bring_about(first, report, refusals, show=False)
        except RunFailed as error:
            report(error)
        first = []
    _bring_about([*first, *wanted], report, refusals)


def scoring(runs: list[Composed]) -> list[Composed]:
    """The runs that take the importance scores which these select their layers by, each once."""
    found: list[list[str]] = []
    chosen = ("selector=", "selector.reverse=", "layer_count=", "layer_count.", "job=", "prune.", "revert.")
    for overrides, plain in runs:
        by_scores = plain.selector.formula is not None and plain.selector.scores is None
        if by_scores and plain.selector.layers is None and plain.job.name in ("finetune", "revert", "prune"):
            command = [*(item for item in overrides if not item.startswith(chosen)), "job=score"]
            found += [command] if command not in found else []
    return [(command, compose_config(command)) for command in found]


def _bring_about(
    wanted: list[Composed],
    report: Callable[[Exception], None],
    refusals: tuple[type[Exception], ...],
    *,
    show: bool = True,
) -> None:
    jobs: list[Job] = []
    runs: list[RunConfig] = []
    together: Callable[[list[RunConfig]], None] | None = None  # of a job that takes all runs at once
    settings: RunConfig | None = None  # of the sweep itself: the same in every run
    for job_overrides, plain in wanted:
        try:
            run = to_run(plain)
            settings = settings or run
            module = importlib.import_module(f"vrx.jobs.{run.job.name}.driver")
            together = getattr(module, "together", None)
            if together is not None:
                runs.append(run)
                continue
            if not run.sweep.dry_run:
                evaluate_run.make_world(run)  # which run lies where depends on its data
            look = functools.partial(getattr(module, "progress", lambda run: Progress("to do")), run)
            jobs.append(Job(job_overrides, look, look()))
        except NoImportanceScores as error:
            if plain.sweep.dry_run:  # they would be taken first
                jobs.append(Job(job_overrides, lambda: Progress("to do"), Progress("to do")))
            else:
                report(error)
        except refusals as error:
            report(error)
    if settings is None:
        return
    if together is not None:
        together(runs)
        return
    if this_node(settings.runtime).num_nodes > 1:
        raise UserError(
            "runtime.num_nodes: a sweep starts its runs on this machine; for several nodes a run, start each by itself "
            "or give them to SLURM, hydra/launcher=submitit_slurm hydra.launcher.nodes=2"
        )
    jobs, name = distinct(jobs), settings.sweep.name
    if settings.sweep.dry_run:
        print(listing(jobs))
    else:
        root = Path(settings.runtime.output_root).absolute()
        logs = root / "sweeps" / (name or "command_line")
        per_run, fail_fast = settings.runtime.gpus_per_run, settings.sweep.fail_fast
        failed = run_all(jobs, logs=logs, gpus=gpu_numbers(), gpus_per_run=per_run, fail_fast=fail_fast)
        if show and name is not None and name in load_paper().artefacts:
            print(artifact_as_text(name, root, model=settings.model.name))
        print(f"{len(jobs) - len(failed)} of {len(jobs)} runs done; logs: {logs}")
        if failed:
            raise RunFailed(f"{len(failed)} of {len(jobs)} runs failed; the same command tries just these again")
