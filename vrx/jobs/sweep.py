"""`vrx sweep=…`, `vrx -m …`: every run of a sweep, and at its end the table or figure it makes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from vrx import paper
from vrx.checks import to_run
from vrx.distributed import RunFailed, gpu_numbers
from vrx.expansion import composed, expand
from vrx.multirun import Job, Progress, distinct, listing, run_all
from vrx.report import artefacts


def sweep(overrides: list[str], report: Callable[[Exception], None], refusals: tuple[type[Exception], ...]) -> None:
    """Bring every run of a sweep to its end. One that is refused or fails is reported and does not stop the others."""
    jobs: list[Job] = []
    expanded = expand(overrides)
    for job_overrides in expanded:
        try:
            run = to_run(composed(job_overrides))
            module = importlib.import_module(run.job._target_.rpartition(".")[0])
            look = functools.partial(getattr(module, "progress", lambda run: Progress("to do")), run)
            jobs.append(Job(job_overrides, look, look()))
        except refusals as error:
            report(error)
    jobs = distinct(jobs)
    whole = composed(expanded[0])  # its own settings are the same in every run
    if whole.sweep.dry_run:
        print(listing(jobs))
    elif jobs:
        root = Path(whole.runtime.output_root).absolute()
        logs = root / "sweeps" / (whole.sweep.name or "command_line")
        per_run, fail_fast = whole.runtime.gpus_per_run, whole.sweep.fail_fast
        failed = run_all(jobs, logs=logs, gpus=gpu_numbers(), gpus_per_run=per_run, fail_fast=fail_fast)
        if whole.sweep.name in paper.load().artefacts:
            print(artefacts.artefact(whole.sweep.name, root, model=whole.model.name))
        print(f"{len(jobs) - len(failed)} of {len(jobs)} runs done; logs: {logs}")
        if failed:
            raise RunFailed(f"{len(failed)} of {len(jobs)} runs failed; the same command tries just these again")
