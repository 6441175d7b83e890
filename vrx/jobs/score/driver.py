"""`vrx job=score`: importance of every decoder layer, as a file that selectors read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.evaluation import calibration, evaluate_run
from vrx.jobs import source_run
from vrx.jobs.score.files import inputs_file, sample_scores_file, scores_file
from vrx.jobs.source_run import SourceRun
from vrx.launch.logging import log
from vrx.launch.sweep_runner import Progress
from vrx.launch.workers import launch
from vrx.runs import content_digest, files, identity, importance_files
from vrx.runs.layer_selection import num_selected
from vrx.runs.locks import exclusive_lock
from vrx.runs.provenance import current_provenance
from vrx.runs.run_config import write_config
from vrx.runs.typed_json import to_json
from vrx.selectors import rules


def score(run: RunConfig) -> None:
    """Score a finished fine-tune: `job.run`, or that of all layers, which is brought to its end first; or with
    `score.base_model=true` the LVLM before tuning."""
    if run.score.base_model and run.job.run is not None:
        raise UserError("score.base_model=true: valid without job.run, which names a tuned LVLM")
    k = min(num_selected(run), run.model.num_layers)
    evaluate_run.make_world(run)
    source = _untouched(run) if run.score.base_model else source_run.finished_source(_described(run))
    run = source_run.with_source_settings(source, run)
    run_dir = importance_files.scores_file(run, source.name).parent
    with exclusive_lock(run_dir):
        told = _told(run, source)
        if _is_done(run_dir, told):
            log(f"{run_dir.name} is scored on these samples; nothing to do")
        else:
            files.write_json(inputs_file(run_dir), told)
            write_config(run_dir, run)
            launch("score", run_dir, run.runtime)
    _show(run, importance_files.scores_file(run, source.name), k)


def progress(run: RunConfig) -> Progress:
    """How far this run is; starts nothing and makes nothing."""
    data_there = run.instructions.path is not None and Path(run.instructions.path).is_file()
    if not data_there and run.world is not None:
        return Progress("to do")  # its data come with the first run
    if run.score.base_model:
        source = _untouched(run)
    elif (found := source_run.find_source(_described(run))) is not None:
        source = found
    else:
        place = source_run.source_dir(_described(run))
        return Progress("to do", importance_files.scores_file(run, place.name).parent if place else None)
    run = source_run.with_source_settings(source, run)
    run_dir = importance_files.scores_file(run, source.name).parent
    return Progress("done" if _is_done(run_dir, _told(run, source)) else "to do", run_dir)


def _described(run: RunConfig) -> RunConfig:
    """The fine-tune of all layers that the configuration describes, unless `job.run` names another run."""
    return dataclasses.replace(importance_files.all_layers(run), job=run.job)


def _untouched(run: RunConfig) -> SourceRun:
    return SourceRun(None, identity.base_identity(run), (), run)


def _told(run: RunConfig, source: SourceRun) -> dict[str, Any]:
    """What a score file says beside the scores; `made_from` stands for all that decides on them."""
    tuned = source.run_dir is not None
    scored = {
        "run_id": files.digest(source.identity)[:8],
        "identity": source.identity,
        "data": importance_files.data_fingerprint(source.config.instructions.path),
    }
    weights = content_digest.weights_digest(
        run.model, source.run_dir or importance_files.scores_file(run, source.name).parent
    )
    samples = calibration.describe(calibration.draw_samples(run))
    return {
        "version": importance_files.VERSION,
        "made_from": files.digest([importance_files.VERSION, weights, samples])[:16],
        "model": {**identity.base_identity(run), "name": run.model.name},
        "scored": scored if tuned else None,
        "weights": weights,
        "calibration": samples,
        "provenance": to_json(current_provenance()),
    }


def _is_done(run_dir: Path, told: dict[str, Any]) -> bool:
    """Whether the scores that lie there were made from just this."""
    try:
        written = [files.read_json(path) for path in (scores_file(run_dir), sample_scores_file(run_dir))]
        return all(file["made_from"] == told["made_from"] for file in written)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _show(run: RunConfig, path: Path, k: int) -> None:
    """Of each formula the `k` most important layers."""
    found = importance_files.read_scores(path, model=identity.base_identity(run), num_layers=run.model.num_layers)
    print(f"{run.model.name}, {path.parent.name}: the {k} most important layers")
    width = max(map(len, found))
    for name, values in found.items():
        layers = rules.most_important(run.model.num_layers, k, scores=values)
        print(f"  {name:<{width}}  {', '.join(map(str, layers))}")
    print(f"scores: {path}")
