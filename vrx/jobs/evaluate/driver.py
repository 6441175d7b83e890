"""`vrx evaluate`: score the base model, or with `job.run=<directory>` a finished run."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.jobs.source_run import read_finished_run
from vrx.launch.logging import log
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.identity import Identity, base_identity
from vrx.runs.importance_files import UNTOUCHED
from vrx.runs.locks import exclusive_lock
from vrx.runs.lookup import run_directory
from vrx.runs.neighbours import all_layers_record
from vrx.runs.record import read_record
from vrx.runs.results import is_copy
from vrx.runs.run_dir import RunDir
from vrx.runs.status import RunStatus, run_status


@dataclass(frozen=True)
class Target:
    """The LVLM that is evaluated: configuration with the command's benchmarks, directory, identity, layers."""

    run: RunConfig
    run_dir: Path
    identity: Identity
    layers: list[int]


def evaluate(run: RunConfig) -> None:
    """Answer and score the named benchmarks; the scores of a finished run are added to its own record."""
    evaluate_run.make_world(run)
    samples = evaluate_run.check_benchmarks(run)
    target = _target(run)
    run, run_dir = target.run, target.run_dir
    is_done_copy = is_copy(run_dir) and evaluate_run.evaluation_gap(run, run_dir, samples) is None
    with nullcontext() if is_done_copy else exclusive_lock(run_dir):
        status = run_status(run_dir, [lambda: evaluate_run.evaluation_gap(run, run_dir, samples)])
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if status.is_done:
            record = read_record(RunDir(run_dir).record)
        else:
            run_id = files.digest(target.identity)[:8]
            with following(run, run_dir, run_id, layers=target.layers) as wandb_run:
                scores = evaluate_run.measure(run, run_dir, samples)
                record = evaluate_run.write_record(run_dir, run.model, target.identity, target.layers, scores)
                wandb_run.finish(record)
    all_layers = all_layers_record(run_dir, record, run.runtime.results_paths) if target.layers else None
    print(format_run_summary(record, all_layers))
    print(f"record: {RunDir(run_dir).record}")


def progress(run: RunConfig) -> RunStatus:
    """How far this evaluation is; starts nothing, makes nothing and downloads nothing."""
    if run.world is not None and not Path(run.world.folder).is_dir():
        return RunStatus("to do", "data not made yet")
    target = _target(run)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), target.run_dir)
    return run_status(target.run_dir, [lambda: evaluate_run.evaluation_gap(target.run, target.run_dir, samples)])


def _target(run: RunConfig) -> Target:
    """The finished run that `job.run` names, else the base model."""
    if run.job.run is None:
        identity = base_identity(run)
        return Target(run, run_directory(run, identity, label=UNTOUCHED), identity, [])
    run_dir = Path(run.job.run).absolute()
    record, frozen = read_finished_run(run_dir, run.model)
    return Target(_with_command_settings(frozen, run), run_dir, record.identity, record.layers)


def _with_command_settings(frozen: RunConfig, command: RunConfig) -> RunConfig:
    """The configuration of a finished run, evaluated as the command says: its model and training stay."""
    return dataclasses.replace(
        frozen, benchmark=command.benchmark, eval=command.eval, runtime=command.runtime, wandb=command.wandb
    )
