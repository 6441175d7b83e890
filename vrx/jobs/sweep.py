"""`vrx sweep=…`, `vrx -m …`: every run of a sweep, and at its end the table or figure it makes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from vrx import evaluation, paper
from vrx.checks import to_run
from vrx.config import RunConfig
from vrx.distributed import RunFailed, gpu_numbers
from vrx.expansion import composed, expand
from vrx.multirun import Job, Progress, distinct, listing, run_all
from vrx.report import artefacts


def sweep(overrides: list[str], report: Callable[[Exception], None], refusals: tuple[type[Exception], ...]) -> None:
    """Bring every run of a sweep to its end. One that is refused or fails is reported and does not stop the others."""
    jobs: list[Job] = []
    settings: RunConfig | None = None  # of the sweep itself: the same in every run
    for job_overrides in expand(overrides):
        try:
            run = to_run(composed(job_overrides))
            settings = settings or run
            if not run.sweep.dry_run:
                evaluation.make_world(run)  # which run lies where depends on its data
            module = importlib.import_module(run.job._target_.rpartition(".")[0])
            look = functools.partial(getattr(module, "progress", lambda run: Progress("to do")), run)
            jobs.append(Job(job_overrides, look, look()))
        except refusals as error:
            report(error)
    if settings is None:
        return
    jobs, name = distinct(jobs), settings.sweep.name
    if settings.sweep.dry_run:
        print(listing(jobs))
    else:
        root = Path(settings.runtime.output_root).absolute()
        logs = root / "sweeps" / (name or "command_line")
        per_run, fail_fast = settings.runtime.gpus_per_run, settings.sweep.fail_fast
        failed = run_all(jobs, logs=logs, gpus=gpu_numbers(), gpus_per_run=per_run, fail_fast=fail_fast)
        if name is not None and name in paper.load().artefacts:
            print(artefacts.artefact(name, root, model=settings.model.name))
        print(f"{len(jobs) - len(failed)} of {len(jobs)} runs done; logs: {logs}")
        if failed:
            raise RunFailed(f"{len(failed)} of {len(jobs)} runs failed; the same command tries just these again")
