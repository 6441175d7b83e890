"""`vrx revert`: a tuned LVLM with some layers put back to the backbone's weights (Figure 1, left)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from vrx.config.job_options import RevertConfig, required
from vrx.config.schema import RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.evaluation.evaluate_run import BenchmarkSamples
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
from vrx.runs import files, record
from vrx.runs.identity import Identity
from vrx.runs.results import is_copy
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.status import RunStatus, combined_status, run_status
from vrx.runs.surgery_manifest import LayerSurgery, write_surgery


@dataclass(frozen=True)
class Reversion:
    """The reverted layers, the directory, the identity, and the configuration, which lists the layers."""

    layers: tuple[int, ...]
    run_dir: Path
    identity: Identity
    run: RunConfig


def revert(run: RunConfig) -> None:
    """Complete each reversion up to its record and show what it changes.

    Beside the chosen layers, the job reverts none and all, which the others are compared with: on tasks with images
    the former, on text the latter, whose text is the backbone's. One process answers for all of them and loads the
    LVLM once.
    """
    evaluate_run.make_world(run)
    samples = evaluate_run.check_benchmarks(run)
    source = source_run.finished_source(run)
    reversions = plan_reversions(source_run.with_source_settings(source, run), source)
    to_do = {
        reversion.run_dir: reversion
        for reversion in reversions
        if not (is_copy(reversion.run_dir) and _status(reversion, samples).is_done)
    }
    while to_do:
        with source_run.lock_available(to_do) as locked:
            _complete(source, [to_do.pop(folder) for folder in locked], samples)
    runs = [Run(reversion.run_dir, record.read_record(RunDir(reversion.run_dir).record)) for reversion in reversions]
    print("\n".join(plot.as_text() for plot in figure1_reversion(FigureInputs(runs, load_paper()))))
    print("\n".join(f"record: {RunDir(run.folder).record}" for run in runs))


def layers_to_revert(run: RunConfig) -> list[tuple[int, ...]]:
    """The layers of each reversion: none, those that were chosen, all."""
    depth = run.model.num_layers
    quarter = max(1, depth // 4)
    options = required(run.revert)
    chosen = [tuple(range(first, last + 1)) for first, last in options.blocks or ()]
    chosen += [tuple(sorted(options.layers))] if options.layers is not None else []
    if options.blocks is None and options.layers is None:
        chosen = [tuple(range(first, min(first + quarter, depth))) for first in range(0, depth, quarter)]
    return list(dict.fromkeys([(), *chosen, tuple(range(depth))]))


def plan_reversions(run: RunConfig, source: SourceRun) -> list[Reversion]:
    """The reversions of a source run, each of a directory of its own."""
    reversions = []
    for layers in layers_to_revert(run):
        of_layers = dataclasses.replace(run, revert=RevertConfig(layers=list(layers)))
        run_dir, identity = source_run.locate_altered_run(of_layers, source, "reverted", layers)
        reversions.append(Reversion(layers, run_dir, identity, of_layers))
    return reversions


def _complete(source: SourceRun, reversions: list[Reversion], samples: BenchmarkSamples) -> None:
    """Answer and record those reversions that are not finished; their locks are held."""
    for reversion in reversions:
        write_surgery(reversion.run_dir, LayerSurgery(source.run_dir or reversion.run_dir, reverted=reversion.layers))
    unfinished = []
    for reversion in reversions:
        status = _status(reversion, samples)
        log(f"{reversion.run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if not status.is_done:
            unfinished.append(reversion)
    _answer([reversion for reversion in unfinished if _is_unanswered(reversion, samples)])
    layers = list(source.layers)
    for reversion in unfinished:
        run, run_dir, identity = reversion.run, reversion.run_dir, reversion.identity
        with following(run, run_dir, files.digest(identity)[:8], layers=layers) as wandb_run:
            scores = evaluate_run.measure(run, run_dir, samples)
            wandb_run.finish(evaluate_run.write_record(run_dir, run.model, identity, layers, scores))


def _answer(reversions: list[Reversion]) -> None:
    """Have one worker answer the benchmarks of all these reversions."""
    if not reversions:
        return
    for reversion in reversions:
        write_config(reversion.run_dir, reversion.run)
    first = reversions[0]
    files.write_json(reversions_file(first.run_dir), [reversion.run_dir.name for reversion in reversions])
    launch("revert", first.run_dir, first.run.runtime)
    reversions_file(first.run_dir).unlink()


def progress(run: RunConfig) -> RunStatus:
    """How far the reversions are; starts nothing, makes nothing and downloads nothing."""
    source = source_run.find_source_if_data_exist(run)
    if source is None:
        return RunStatus("to do", "not tuned yet")
    run = source_run.with_source_settings(source, run)
    try:
        samples = evaluate_run.check_benchmarks(run, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error))
    reversions = plan_reversions(run, source)
    run_dir = reversions[1].run_dir if len(reversions) == 3 else None  # no single one stands for several
    return combined_status((_status(reversion, samples) for reversion in reversions), run_dir=run_dir)


def _is_unanswered(reversion: Reversion, samples: BenchmarkSamples) -> bool:
    return bool(evaluate_run.existing_answers(reversion.run, reversion.run_dir, samples).missing)


def _status(reversion: Reversion, samples: BenchmarkSamples) -> RunStatus:
    run, run_dir = reversion.run, reversion.run_dir
    return run_status(run_dir, [lambda: evaluate_run.evaluation_gap(run, run_dir, samples)])
