"""`vrx job=evaluate`: score the untouched LVLM, or with `job.run=<directory>` a finished run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx import evaluation, records, tables
from vrx.checks import thaw
from vrx.config import RunConfig
from vrx.distributed import log
from vrx.locks import only_one
from vrx.tracking import following


def evaluate(run: RunConfig) -> None:
    """Answer and score the benchmarks named; a finished run gets them into its own record."""
    evaluation.make_world(run)
    asked = evaluation.check_benchmarks(run)
    if run.job.run is None:
        identity, layers, trained = records.untouched(run), [], None
        run_dir = records.run_directory(run, identity, label="untouched")
    else:
        run_dir = Path(run.job.run).absolute()
        if not (run_dir / "record.json").is_file():
            raise FileNotFoundError(
                f"job.run={run.job.run}: holds no record.json; valid is the directory of a finished run"
            )
        before = records.read_record(run_dir / "record.json")
        identity, layers, trained = before["identity"], before["layers"], before["train"]
        kept = thaw(run_dir / "config.yaml")  # the model and how it was trained are the run's, whatever was typed
        run = dataclasses.replace(kept, benchmark=run.benchmark, eval=run.eval, runtime=run.runtime, wandb=run.wandb)
    with only_one(run_dir):
        record = evaluation.finished(run, run_dir, asked)
        if record is not None:
            log(f"{run_dir.name} has these scores; nothing to do")
        else:
            with following(run, run_dir, records.digest(identity)[:8]) as wandb_run:
                scores = evaluation.measure(run, run_dir, asked)
                record = evaluation.write_record(run_dir, identity, layers, trained, scores)
                wandb_run.finish(record)
    print(tables.row(record, records.all_layers_record(run_dir, record) if layers else None))
    print(f"record: {run_dir / 'record.json'}")
