"""`vrx finetune`: tune the selected layers, answer the benchmarks, record, print the row."""

from __future__ import annotations

from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.config.validate import validate_process_count
from vrx.data import run_data
from vrx.data.images.digest import require_same_pictures
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.jobs.training_stage import expected_hours, launch_training
from vrx.launch.logging import log
from vrx.launch.workers import num_processes
from vrx.models import fit
from vrx.report.run_summary import format_run_summary
from vrx.report.wandb_run import following
from vrx.runs import files
from vrx.runs.counted_model import layer_kinds
from vrx.runs.layer_selection import choose_layers, kinds_missed, select_layers, selector_label, with_frozen_layers
from vrx.runs.locks import exclusive_lock, shared_resource_lock
from vrx.runs.lookup import locate_finetune
from vrx.runs.neighbours import all_layers_record
from vrx.runs.record import Record, read_record, with_selectors
from vrx.runs.results import is_copy
from vrx.runs.run_dir import RunDir
from vrx.runs.status import Check, Gap, RunStatus, run_status, training_gap
from vrx.runs.train_summary import read_train_summary


def finetune(run: RunConfig) -> None:
    """Complete a run up to its record; finished stages are skipped, an interrupted training is resumed."""
    validate_process_count(run, num_processes(run.runtime))
    fit.require_fit(run.model)
    evaluate_run.make_world(run)
    samples = evaluate_run.check_benchmarks(run)
    data = run.runtime.output_path / "data"
    digest = run_data.digest(run, data)
    chosen, layer_scores = choose_layers(run, digest)
    layers, selectors = list(chosen), [selector_label(run)]
    run_dir, identity = locate_finetune(run, layers, digest)
    kinds = layer_kinds(run, read_only=False)
    if (advice := kinds_missed(run, layers, kinds)) is not None:
        log(advice)
    of_layers = None if kinds is None else [kinds[layer] for layer in layers]
    run = with_frozen_layers(run, layers)
    if is_copy(run_dir) and run_status(run_dir, _checks(run, run_dir, samples)).is_done:
        log(f"{run_dir.name}: done, without weights, in {run_dir.parents[2]}; nothing to do")
        _show(run, run_dir, read_record(RunDir(run_dir).record))
        return
    with exclusive_lock(run_dir):
        require_same_pictures(run, run_dir, data)
        status = run_status(run_dir, _checks(run, run_dir, samples))
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if status.is_done:
            record = read_record(RunDir(run_dir).record)
            relabelled = with_selectors(record, selectors)
            if relabelled.selectors != record.selectors:  # another selector chooses the same layers
                relabelled.layer_scores = record.layer_scores or layer_scores
                relabelled.write(RunDir(run_dir).record)
            _show(run, run_dir, record)
            return
        with following(run, run_dir, files.digest(identity)[:8], layers=layers) as wandb_run:
            if training_gap(run_dir) is not None:
                with shared_resource_lock(data / "instructions"):
                    table = run_data.build(run, data, digest=digest)
                with_kinds = layers if of_layers is None else {"layers": layers, "kinds": of_layers}
                files.write_json(RunDir(run_dir).layers, with_kinds)
                launch_training("train", run, run_dir, table=table, digest=digest, while_running=wandb_run.follow)
            scores = evaluate_run.measure(run, run_dir, samples)
            record = evaluate_run.write_record(
                run_dir,
                run.model,
                identity,
                layers,
                scores,
                train=read_train_summary(RunDir(run_dir).train_summary),
                selectors=selectors,
                layer_kinds=of_layers,
                layer_scores=layer_scores,
            )
            wandb_run.finish(record)
        _show(run, run_dir, record)


def progress(run: RunConfig) -> RunStatus:
    """How far this run is; starts nothing, makes nothing and downloads nothing."""
    is_data_made = run.instructions.path is not None and Path(run.instructions.path).is_file()
    if not is_data_made and run.world is not None:
        return RunStatus("to do", "data not made yet")
    data = run.runtime.output_path / "data"
    digest = run_data.digest(run, data, read_only=True)
    run_dir, identity = locate_finetune(run, select_layers(run, digest), digest)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), run_dir)
    hours = expected_hours(run, run_dir, identity)
    checks = [*_checks(run, run_dir, samples), lambda: _label_gap(run, run_dir)]
    return run_status(run_dir, checks, expected_hours=hours)


def _checks(run: RunConfig, run_dir: Path, samples: evaluate_run.BenchmarkSamples) -> list[Check]:
    return [lambda: training_gap(run_dir), lambda: evaluate_run.evaluation_gap(run, run_dir, samples)]


def _label_gap(run: RunConfig, run_dir: Path) -> Gap | None:
    """That the record of a finished run does not name this selector, which chooses the same layers as another."""
    label = selector_label(run)
    if is_copy(run_dir) or label in read_record(RunDir(run_dir).record).selectors:
        return None
    return Gap(f"its record does not name selector={label} yet")


def _show(run: RunConfig, run_dir: Path, record: Record) -> None:
    print(format_run_summary(record, all_layers_record(run_dir, record, run.runtime.results_paths)))
    print(f"record: {RunDir(run_dir).record}")
