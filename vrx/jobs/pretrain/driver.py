"""`vrx pretrain`: train the projector between a frozen tower and a frozen backbone, LLaVA's first stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.schema import LayerCountConfig, RunConfig, SelectorConfig
from vrx.config.validate import validate_process_count
from vrx.data.images.digest import require_same_pictures
from vrx.data.instructions import captions, instruction_dataset
from vrx.data.instructions.chat_templates import get_template
from vrx.evaluation import evaluate_run
from vrx.jobs.training_stage import expected_hours, launch_training
from vrx.launch.logging import log
from vrx.launch.workers import num_processes
from vrx.models import fit
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.identity import Identity
from vrx.runs.locks import exclusive_lock, shared_resource_lock
from vrx.runs.lookup import locate_pretrain
from vrx.runs.record import Record, read_record
from vrx.runs.run_dir import RunDir
from vrx.runs.status import Gap, RunStatus, run_status, training_gap
from vrx.runs.train_summary import read_train_summary


def pretrain(run: RunConfig) -> None:
    """Complete a pre-training up to its record; a finished one is left alone, an interrupted one is resumed."""
    validate_process_count(run, num_processes(run.runtime))
    get_template(run.model.template)  # which names the tokenizer's files
    evaluate_run.make_world(run)
    data = run.runtime.output_path / "data"
    digest = instruction_dataset.data_digest(run.captions, data)
    run, run_dir, identity = _located(run, digest)
    fit.require_fit(run.model)
    with exclusive_lock(run_dir):
        require_same_pictures(run, run_dir, data)
        status = run_status(run_dir, [lambda: _gap(run_dir)])
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if status.is_done:
            _show(run_dir, read_record(RunDir(run_dir).record))
            return
        with following(run, run_dir, files.digest(identity)[:8], layers=[]) as wandb_run:
            if training_gap(run_dir, "projector") is not None:
                with shared_resource_lock(data / "instructions"):
                    table = instruction_dataset.build_table(run.captions, data, digest=digest)
                    captions.require_captions(table, run.captions)
                launch_training("pretrain", run, run_dir, table=table, digest=digest, while_running=wandb_run.follow)
            summary = read_train_summary(RunDir(run_dir).train_summary)
            record = evaluate_run.write_record(run_dir, run.model, identity, [], {}, train=summary)
            wandb_run.finish(record)
        _show(run_dir, record)


def progress(run: RunConfig) -> RunStatus:
    """How far this run is; starts nothing, makes nothing and downloads nothing."""
    is_data_made = run.captions.path is not None and Path(run.captions.path).is_file()
    if not is_data_made and run.world is not None:
        return RunStatus("to do", "data not made yet")
    digest = instruction_dataset.data_digest(run.captions, run.runtime.output_path / "data", read_only=True)
    run, run_dir, identity = _located(run, digest)
    return run_status(run_dir, [lambda: _gap(run_dir)], expected_hours=expected_hours(run, run_dir, identity))


def _located(run: RunConfig, digest: str) -> tuple[RunConfig, Path, Identity]:
    """The run as its workers and records see it, its directory and its identity.

    Its projector is the one that it makes; it tunes no layers and answers no benchmarks, whatever the defaults are.
    """
    run = dataclasses.replace(run, engine=dataclasses.replace(run.engine, fused_lora=None))  # recipe=fast sets it
    run_dir, identity = locate_pretrain(run, digest)
    model = dataclasses.replace(run.model, projector=str(RunDir(run_dir).projector))
    selector = SelectorConfig(name="none", rule="fixed", layers=[])
    run = dataclasses.replace(run, model=model, selector=selector, layer_count=LayerCountConfig(k=0), benchmark={})
    return run, run_dir, identity


def _gap(run_dir: Path) -> Gap | None:
    """What the run lacks: the projector, or its record."""
    gap = training_gap(run_dir, "projector")
    if gap is None and not RunDir(run_dir).record.is_file():
        return Gap("no record", is_started=True)
    return gap


def _show(run_dir: Path, record: Record) -> None:
    assert record.train is not None
    train = record.train
    print(f"{record.model.name}, projector: loss {train.final_loss:.4g} after {train.steps} steps")
    print(f"projector: {RunDir(run_dir).projector}  (model.projector=pretrained finds it)")
    print(f"record: {RunDir(run_dir).record}")
