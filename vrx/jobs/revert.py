"""`vrx job=revert`: a tuned LVLM with some layers put back to the backbone's weights (Figure 1, left)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx import answers, evaluation, figures, origins, paper, plots, records
from vrx.benchmarks import Sample
from vrx.config import RevertConfig, RunConfig, freeze
from vrx.distributed import log
from vrx.launching import launch
from vrx.multirun import Progress
from vrx.origins import Origin
from vrx.records import write_atomic, write_json
from vrx.report.runs import Run
from vrx.tracking import following

LISTED = "reversions.json"  # of the directory a worker is started in: the directories it is to answer in


def revert(run: RunConfig) -> None:
    """Bring each reversion to its record and show what it changes.

    With the chosen ones come the LVLM as it is and the one with every layer put back, which the others are compared
    with: on tasks with images the former, on text the latter, whose text is the backbone's. All are answered by one
    process, which loads the LVLM once.
    """
    evaluation.make_world(run)
    asked = evaluation.check_benchmarks(run)
    origin = origins.finished(run)
    run = origins.like(origin, run)
    todo = dict(_place(run, origin, layers) for layers in reversions(run))
    all_dirs, found = list(todo), []
    while todo:
        with origins.some_of(todo) as mine:
            _bring(origin, {folder: todo.pop(folder) for folder in mine}, asked)
    for folder in all_dirs:
        found.append(Run(folder, records.read_record(folder / "record.json")))
    print("\n".join(plots.as_text(plot) for plot in figures.figure1_reversion(found, paper.load())))
    print("\n".join(f"record: {one.folder / 'record.json'}" for one in found))


def reversions(run: RunConfig) -> list[tuple[int, ...]]:
    """The layers put back in each reversion: none, those that were chosen, all."""
    depth = run.model.num_layers
    quarter = max(1, depth // 4)
    chosen = [tuple(range(first, last + 1)) for first, last in run.revert.blocks or ()]
    chosen += [tuple(sorted(run.revert.layers))] if run.revert.layers is not None else []
    if run.revert.blocks is None and run.revert.layers is None:
        chosen = [tuple(range(first, min(first + quarter, depth))) for first in range(0, depth, quarter)]
    return list(dict.fromkeys([(), *chosen, tuple(range(depth))]))


def _place(run: RunConfig, origin: Origin, layers: tuple[int, ...]) -> tuple[Path, RunConfig]:
    """The directory of one reversion, and its configuration."""
    one = dataclasses.replace(run, revert=RevertConfig(layers=list(layers)))
    return origins.altered(one, origin, "reverted", layers)[0], one


def _bring(origin: Origin, runs: dict[Path, RunConfig], asked: dict[str, list[Sample]]) -> None:
    """Answer and record those of the runs that are not finished; their locks are held."""
    for folder, run in runs.items():
        answers.write_done(folder, answers.Done(origin.run_dir or folder, reverted=tuple(run.revert.layers or ())))
    missing = {folder: run for folder, run in runs.items() if evaluation.finished(run, folder, asked) is None}
    for folder in runs.keys() - missing.keys():
        log(f"{folder.name} is finished; nothing to do")
    unanswered = [folder for folder, run in missing.items() if len(evaluation.have(run, folder, asked)) < len(asked)]
    if unanswered:
        for folder in unanswered:
            write_atomic(folder / "config.yaml", freeze(missing[folder]))
        write_json(unanswered[0] / LISTED, [folder.name for folder in unanswered])
        launch("revert", unanswered[0], missing[unanswered[0]].runtime)
        (unanswered[0] / LISTED).unlink()
    for folder, run in missing.items():
        _, identity = origins.altered(run, origin, "reverted", run.revert.layers or ())
        with following(run, folder, records.digest(identity)[:8]) as wandb_run:
            scores = evaluation.measure(run, folder, asked)
            wandb_run.finish(evaluation.write_record(folder, identity, list(origin.layers), None, scores))


def progress(run: RunConfig) -> Progress:
    """How far the reversions are; starts nothing and makes nothing."""
    origin = origins.begun(run)
    if origin is None:
        return Progress("to do")
    run = origins.like(origin, run)
    asked = evaluation.check_benchmarks(run)
    runs = dict(_place(run, origin, layers) for layers in reversions(run))
    done = [evaluation.finished(one, folder, asked) is not None for folder, one in runs.items()]
    run_dir = list(runs)[1] if len(runs) == 3 else None  # of several no one stands for all
    return Progress("done" if all(done) else "resumable" if any(done) else "to do", run_dir)
