"""`vrx job=finetune`: tune the selected layers, answer the benchmarks, record, print the row."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx import evaluation, instructions, records, tables
from vrx.checks import check_processes, select, selector_name
from vrx.config import RunConfig, freeze
from vrx.distributed import log
from vrx.launching import launch, num_processes
from vrx.locks import one_at_a_time, only_one
from vrx.multirun import Progress
from vrx.tracking import following


def finetune(run: RunConfig) -> None:
    """Bring a run to its record; what is done is skipped, what was interrupted goes on."""
    check_processes(run, num_processes(run.runtime))
    evaluation.make_world(run)
    asked = evaluation.check_benchmarks(run)
    data = Path(run.runtime.output_root).absolute() / "data"
    digest = instructions.data_digest(run.instructions, data)
    identity = records.identity(run, digest)
    run_dir = records.run_directory(run, identity, label=records.label(run))
    layers, selectors = list(select(run)), [selector_name(run)]
    run = dataclasses.replace(run, selector=dataclasses.replace(run.selector, layers=layers))  # for good
    with only_one(run_dir):
        done, record = run_dir / "train.json", evaluation.finished(run, run_dir, asked)
        if done.is_file() and record is not None:
            log(f"{run_dir.name} is finished; nothing to do")
            names = sorted({*record.get("selectors", ()), *selectors})
            if record.get("selectors") != names:  # these layers by another name
                record["selectors"] = names
                records.write_json(run_dir / "record.json", record)
            _show(run_dir, record)
            return
        with following(run, run_dir, records.digest(identity)[:8]) as wandb_run:
            if not done.is_file():
                with one_at_a_time(data / "instructions"):
                    table = instructions.table(run.instructions, data, digest=digest)
                records.write_json(run_dir / "data.json", {"table": str(table), "sha256": digest})
                records.write_json(run_dir / "layers.json", layers)
                records.write_atomic(run_dir / "config.yaml", freeze(run))
                launch("train", run_dir, run.runtime, while_running=wandb_run.follow)
            scores = evaluation.measure(run, run_dir, asked)
            trained = records.read_json(done)
            record = evaluation.write_record(run_dir, identity, layers, trained, scores, selectors=selectors)
            wandb_run.finish(record)
        _show(run_dir, record)


def progress(run: RunConfig) -> Progress:
    """How far this run is; starts nothing and makes nothing."""
    data_there = run.instructions.path is not None and Path(run.instructions.path).is_file()
    if not data_there and run.world is not None:
        return Progress("to do")  # its data come with the first run
    data = Path(run.runtime.output_root).absolute() / "data"
    digest = instructions.data_digest(run.instructions, data if data.is_dir() else None)
    identity = records.identity(run, digest)
    run_dir = records.run_directory(run, identity, label=records.label(run))
    trained = (run_dir / "train.json").is_file()
    if trained and evaluation.finished(run, run_dir, evaluation.check_benchmarks(run)) is not None:
        return Progress("done", run_dir)
    resumable = trained or any((run_dir / "checkpoint").glob("step-*"))
    expected = records.typical_seconds(run_dir, identity)
    return Progress("resumable" if resumable else "to do", run_dir, expected)


def _show(run_dir: Path, record: dict) -> None:
    print(tables.row(record, records.all_layers_record(run_dir, record)))
    print(f"record: {run_dir / 'record.json'}")
