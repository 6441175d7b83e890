"""`vrx job=finetune`: tune the selected layers, answer the benchmarks, record, print the row."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.config.validate import validate_process_count
from vrx.data import instruction_dataset
from vrx.evaluation import evaluate_run
from vrx.launch.logging import log
from vrx.launch.sweep_runner import Progress
from vrx.launch.workers import launch, num_processes
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.layer_selection import select_layers, selector_label
from vrx.runs.locks import exclusive_lock, shared_resource_lock
from vrx.runs.lookup import run_directory, run_identity, run_label
from vrx.runs.record import Record, all_layers_record, typical_seconds, with_selectors
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary


def finetune(run: RunConfig) -> None:
    """Bring a run to its record; what is done is skipped, what was interrupted goes on."""
    validate_process_count(run, num_processes(run.runtime))
    evaluate_run.make_world(run)
    asked = evaluate_run.check_benchmarks(run)
    data = Path(run.runtime.output_root).absolute() / "data"
    digest = instruction_dataset.data_digest(run.instructions, data)
    identity = run_identity(run, digest)
    run_dir = run_directory(run, identity, label=run_label(run))
    layers, selectors = list(select_layers(run)), [selector_label(run)]
    run = dataclasses.replace(run, selector=dataclasses.replace(run.selector, layers=layers))  # for good
    with exclusive_lock(run_dir):
        done, record = RunDir(run_dir).train_summary, evaluate_run.finished(run, run_dir, asked)
        if done.is_file() and record is not None:
            log(f"{run_dir.name} is finished; nothing to do")
            named = with_selectors(record, selectors)
            if named.selectors != record.selectors:  # these layers by another name
                named.write(RunDir(run_dir).record)
            _show(run_dir, record)
            return
        with following(run, run_dir, files.digest(identity)[:8]) as wandb_run:
            if not done.is_file():
                with shared_resource_lock(data / "instructions"):
                    table = instruction_dataset.table(run.instructions, data, digest=digest)
                files.write_json(RunDir(run_dir).data, {"table": str(table), "sha256": digest})
                files.write_json(RunDir(run_dir).layers, layers)
                write_config(run_dir, run)
                launch("train", run_dir, run.runtime, while_running=wandb_run.follow)
            scores = evaluate_run.measure(run, run_dir, asked)
            record = evaluate_run.write_record(
                run_dir, run.model, identity, layers, scores, train=read_train_summary(done), selectors=selectors
            )
            wandb_run.finish(record)
        _show(run_dir, record)


def progress(run: RunConfig) -> Progress:
    """How far this run is; starts nothing and makes nothing."""
    data_there = run.instructions.path is not None and Path(run.instructions.path).is_file()
    if not data_there and run.world is not None:
        return Progress("to do")  # its data come with the first run
    data = Path(run.runtime.output_root).absolute() / "data"
    digest = instruction_dataset.data_digest(run.instructions, data if data.is_dir() else None)
    identity = run_identity(run, digest)
    run_dir = run_directory(run, identity, label=run_label(run))
    trained = RunDir(run_dir).train_summary.is_file()
    if trained and evaluate_run.finished(run, run_dir, evaluate_run.check_benchmarks(run)) is not None:
        return Progress("done", run_dir)
    resumable = trained or RunDir(run_dir).checkpoint_step() is not None
    expected = typical_seconds(run_dir, identity)
    return Progress("resumable" if resumable else "to do", run_dir, expected)


def _show(run_dir: Path, record: Record) -> None:
    print(format_run_summary(record, all_layers_record(run_dir, record)))
    print(f"record: {RunDir(run_dir).record}")
