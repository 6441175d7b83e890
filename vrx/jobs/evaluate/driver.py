"""`vrx job=evaluate`: score the untouched LVLM, or with `job.run=<directory>` a finished run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.launch.logging import log
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.identity import Identity, base_identity
from vrx.runs.locks import exclusive_lock
from vrx.runs.lookup import run_directory
from vrx.runs.record import all_layers_record, read_record
from vrx.runs.run_dir import RunDir
from vrx.runs.status import RunStatus, run_status


def evaluate(run: RunConfig) -> None:
    """Answer and score the benchmarks named; a finished run gets them into its own record."""
    evaluate_run.make_world(run)
    asked = evaluate_run.check_benchmarks(run)
    run, run_dir, identity, layers = _target(run)
    with exclusive_lock(run_dir):
        status = run_status(run_dir, [lambda: evaluate_run.evaluation_gap(run, run_dir, asked)])
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if status.is_done:
            record = read_record(RunDir(run_dir).record)
        else:
            with following(run, run_dir, files.digest(identity)[:8]) as wandb_run:
                scores = evaluate_run.measure(run, run_dir, asked)
                record = evaluate_run.write_record(run_dir, run.model, identity, layers, scores)
                wandb_run.finish(record)
    print(format_run_summary(record, all_layers_record(run_dir, record) if layers else None))
    print(f"record: {RunDir(run_dir).record}")


def progress(run: RunConfig) -> RunStatus:
    """How far this evaluation is; starts nothing, makes nothing and downloads nothing."""
    if run.world is not None and not Path(run.world.folder).is_dir():
        return RunStatus("to do", "data not made yet")
    run, run_dir, _, _ = _target(run)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), run_dir)
    return run_status(run_dir, [lambda: evaluate_run.evaluation_gap(run, run_dir, samples)])


def _target(run: RunConfig) -> tuple[RunConfig, Path, Identity, list[int]]:
    """The evaluation's configuration, and directory, identity and tuned layers of the LVLM that it evaluates."""
    if run.job.run is None:
        identity, layers = base_identity(run), []
        run_dir = run_directory(run, identity, label="untouched")
    else:
        run_dir = Path(run.job.run).absolute()
        if not RunDir(run_dir).record.is_file():
            raise UserError(f"job.run={run.job.run}: holds no record.json; valid is the directory of a finished run")
        finished = read_record(RunDir(run_dir).record)
        identity, layers = finished.identity, finished.layers
        frozen = load_frozen(RunDir(run_dir).config)  # model and training are the run's, whatever was typed
        run = dataclasses.replace(frozen, benchmark=run.benchmark, eval=run.eval, runtime=run.runtime, wandb=run.wandb)
    return run, run_dir, identity, layers
