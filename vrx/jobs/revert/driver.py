"""`vrx job=revert`: a tuned LVLM with some layers put back to the backbone's weights (Figure 1, left)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.job_options import RevertConfig, required
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.jobs import source_run
from vrx.jobs.revert import reversions_file
from vrx.jobs.source_run import SourceRun
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.reversion import figure1_reversion
from vrx.report.paper import load_paper
from vrx.report.wandb_run import following
from vrx.runs import files, record, surgery_manifest
from vrx.runs.files import write_json
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.status import RunStatus, combined_status, run_status


def revert(run: RunConfig) -> None:
    """Bring each reversion to its record and show what it changes.

    With the chosen ones come the LVLM as it is and the one with every layer put back, which the others are compared
    with: on tasks with images the former, on text the latter, whose text is the backbone's. All are answered by one
    process, which loads the LVLM once.
    """
    evaluate_run.make_world(run)
    asked = evaluate_run.check_benchmarks(run)
    origin = source_run.finished_source(run)
    run = source_run.with_source_settings(origin, run)
    todo = dict(_place(run, origin, layers) for layers in reversions(run))
    all_dirs = list(todo)
    while todo:
        with source_run.lock_available(todo) as mine:
            _bring(origin, {folder: todo.pop(folder) for folder in mine}, asked)
    found = [Run(folder, record.read_record(RunDir(folder).record)) for folder in all_dirs]
    print("\n".join(plot.as_text() for plot in figure1_reversion(FigureInputs(found, load_paper()))))
    print("\n".join(f"record: {RunDir(one.folder).record}" for one in found))


def reversions(run: RunConfig) -> list[tuple[int, ...]]:
    """The layers put back in each reversion: none, those that were chosen, all."""
    depth = run.model.num_layers
    quarter = max(1, depth // 4)
    options = required(run.revert)
    chosen = [tuple(range(first, last + 1)) for first, last in options.blocks or ()]
    chosen += [tuple(sorted(options.layers))] if options.layers is not None else []
    if options.blocks is None and options.layers is None:
        chosen = [tuple(range(first, min(first + quarter, depth))) for first in range(0, depth, quarter)]
    return list(dict.fromkeys([(), *chosen, tuple(range(depth))]))


def _place(run: RunConfig, origin: SourceRun, layers: tuple[int, ...]) -> tuple[Path, RunConfig]:
    """The directory of one reversion, and its configuration."""
    one = dataclasses.replace(run, revert=RevertConfig(layers=list(layers)))
    return source_run.altered_run(one, origin, "reverted", layers)[0], one


def _bring(origin: SourceRun, runs: dict[Path, RunConfig], asked: evaluate_run.BenchmarkSamples) -> None:
    """Answer and record those of the runs that are not finished; their locks are held."""
    for folder, run in runs.items():
        surgery_manifest.write_surgery(
            folder,
            surgery_manifest.LayerSurgery(origin.run_dir or folder, reverted=tuple(required(run.revert).layers or ())),
        )
    missing = {}
    for folder, run in runs.items():
        status = _status(run, folder, asked)
        log(f"{folder.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if not status.is_done:
            missing[folder] = run
    unanswered = [
        folder for folder, run in missing.items() if evaluate_run.existing_answers(run, folder, asked).missing
    ]
    if unanswered:
        for folder in unanswered:
            write_config(folder, missing[folder])
        write_json(reversions_file(unanswered[0]), [folder.name for folder in unanswered])
        launch("revert", unanswered[0], missing[unanswered[0]].runtime)
        reversions_file(unanswered[0]).unlink()
    for folder, run in missing.items():
        _, identity = source_run.altered_run(run, origin, "reverted", required(run.revert).layers or ())
        with following(run, folder, files.digest(identity)[:8]) as wandb_run:
            scores = evaluate_run.measure(run, folder, asked)
            wandb_run.finish(evaluate_run.write_record(folder, run.model, identity, list(origin.layers), scores))


def progress(run: RunConfig) -> RunStatus:
    """How far the reversions are; starts nothing, makes nothing and downloads nothing."""
    origin = source_run.find_source_if_data_exist(run)
    if origin is None:
        return RunStatus("to do", "not tuned yet")
    run = source_run.with_source_settings(origin, run)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error))
    runs = dict(_place(run, origin, layers) for layers in reversions(run))
    run_dir = list(runs)[1] if len(runs) == 3 else None  # no single one stands for several
    return combined_status((_status(one, folder, samples) for folder, one in runs.items()), run_dir=run_dir)


def _status(run: RunConfig, run_dir: Path, samples: evaluate_run.BenchmarkSamples) -> RunStatus:
    return run_status(run_dir, [lambda: evaluate_run.evaluation_gap(run, run_dir, samples)])
