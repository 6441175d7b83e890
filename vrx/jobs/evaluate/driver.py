"""`vrx job=evaluate`: score the untouched LVLM, or with `job.run=<directory>` a finished run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.launch.logging import log
from vrx.report import tables
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.identity import base_identity
from vrx.runs.locks import exclusive_lock
from vrx.runs.record import all_layers_record, read_record
from vrx.runs.run_dir import run_directory


def evaluate(run: RunConfig) -> None:
    """Answer and score the benchmarks named; a finished run gets them into its own record."""
    evaluate_run.make_world(run)
    asked = evaluate_run.check_benchmarks(run)
    if run.job.run is None:
        identity, layers, trained = base_identity(run), [], None
        run_dir = run_directory(run, identity, label="untouched")
    else:
        run_dir = Path(run.job.run).absolute()
        if not (run_dir / "record.json").is_file():
            raise UserError(f"job.run={run.job.run}: holds no record.json; valid is the directory of a finished run")
        before = read_record(run_dir / "record.json")
        identity, layers, trained = before["identity"], before["layers"], before["train"]
        kept = load_frozen(
            run_dir / "config.yaml"
        )  # the model and how it was trained are the run's, whatever was typed
        run = dataclasses.replace(kept, benchmark=run.benchmark, eval=run.eval, runtime=run.runtime, wandb=run.wandb)
    with exclusive_lock(run_dir):
        record = evaluate_run.finished(run, run_dir, asked)
        if record is not None:
            log(f"{run_dir.name} has these scores; nothing to do")
        else:
            with following(run, run_dir, files.digest(identity)[:8]) as wandb_run:
                scores = evaluate_run.measure(run, run_dir, asked)
                record = evaluate_run.write_record(run_dir, identity, layers, trained, scores)
                wandb_run.finish(record)
    print(tables.row(record, all_layers_record(run_dir, record) if layers else None))
    print(f"record: {run_dir / 'record.json'}")
