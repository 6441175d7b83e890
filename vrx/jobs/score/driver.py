"""`vrx score`: importance of every decoder layer, as a file that selectors read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.layers import num_selected
from vrx.config.schema import RunConfig
from vrx.evaluation import calibration, evaluate_run
from vrx.evaluation.dataset_cache import NotConverted
from vrx.jobs import source_run
from vrx.jobs.score import inputs_file, sample_scores_file, scores_file
from vrx.jobs.source_run import SourceRun
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.runs import content_digest, files, identity, importance_files
from vrx.runs.locks import exclusive_lock
from vrx.runs.provenance import current_provenance
from vrx.runs.results import is_copy, require_weights
from vrx.runs.run_config import write_config
from vrx.runs.status import Gap, RunStatus, run_status
from vrx.runs.typed_json import to_json
from vrx.selectors import rules


def score(run: RunConfig) -> None:
    """Score a finished fine-tune: `job.run`, or that of all layers, which is completed first.

    With `score.base_model=true` the LVLM before tuning is scored.
    """
    if required(run.score).base_model and run.job.run is not None:
        raise UserError("score.base_model=true: valid without job.run, which names a tuned LVLM")
    k = min(num_selected(run), run.model.num_layers)
    evaluate_run.make_world(run)
    calibration.draw_samples(run)  # what cannot be drawn is refused before a fine-tune, not after it
    is_base_model = required(run.score).base_model
    source = source_run.base_model(run) if is_base_model else source_run.finished_source(_run_to_score(run))
    run = source_run.with_source_settings(source, run)
    run_dir = importance_files.scores_file(run, source.name).parent
    if is_copy(run_dir) and _score_gap(run_dir, _score_inputs(run, source)) is None:
        _show(run, importance_files.scores_file(run, source.name), k)
        return
    with exclusive_lock(run_dir):
        inputs = _score_inputs(run, source)
        status = run_status(run_dir, [lambda: _score_gap(run_dir, inputs)])
        log(f"{run_dir.name}: {status.reason}" + ("; nothing to do" if status.is_done else ""))
        if not status.is_done:
            require_weights(source.run_dir or run_dir)
            if (message := replaced_scores(run_dir, inputs)) is not None:
                log(message)
            files.write_json(inputs_file(run_dir), inputs)
            write_config(run_dir, run)
            launch("score", run_dir, run.runtime)
    _show(run, importance_files.scores_file(run, source.name), k)


def progress(run: RunConfig) -> RunStatus:
    """How far this run is; starts nothing, makes nothing and downloads nothing."""
    is_data_made = run.instructions.path is not None and Path(run.instructions.path).is_file()
    if not is_data_made and run.world is not None:
        return RunStatus("to do", "data not made yet")
    is_base_model = required(run.score).base_model
    source = source_run.base_model(run) if is_base_model else source_run.find_source(_run_to_score(run))
    if source is None:
        source_dir = source_run.source_dir(_run_to_score(run))
        run_dir = importance_files.scores_file(run, source_dir.name).parent if source_dir else None
        return RunStatus("to do", "not tuned yet", run_dir)
    run = source_run.with_source_settings(source, run)
    run_dir = importance_files.scores_file(run, source.name).parent
    try:
        inputs = _score_inputs(run, source, read_only=True)
    except NotConverted as error:
        return RunStatus("to do", str(error), run_dir)
    return run_status(run_dir, [lambda: _score_gap(run_dir, inputs)])


def _run_to_score(run: RunConfig) -> RunConfig:
    """The fine-tune of all layers that the configuration describes, unless `job.run` names another run."""
    return dataclasses.replace(importance_files.all_layers(run), job=run.job)


def _score_inputs(run: RunConfig, source: SourceRun, *, read_only: bool = False) -> dict[str, Any]:
    """The content of a score file beside the scores; `made_from` is the digest of all that they depend on."""
    tuned = source.run_dir is not None
    scored = {"run_id": files.digest(source.identity)[:8], "identity": source.identity}
    weights = content_digest.weights_digest(
        run.model, source.run_dir or importance_files.scores_file(run, source.name).parent
    )
    samples = calibration.describe(calibration.draw_samples(run, read_only=read_only))
    return {
        "version": importance_files.VERSION,
        "made_from": files.digest([importance_files.VERSION, weights, samples])[:16],
        "model": {**identity.base_identity(run), "name": run.model.name},
        "scored": scored if tuned else None,
        "weights": weights,
        "calibration": samples,
        "provenance": to_json(current_provenance()),
    }


def _score_gap(run_dir: Path, inputs: dict[str, Any]) -> Gap | None:
    """What the scores lack: files, or that they were made from just these weights and samples."""
    try:
        written = [files.read_json(path) for path in (scores_file(run_dir), sample_scores_file(run_dir))]
    except FileNotFoundError:
        return Gap("no scores")
    except (OSError, ValueError) as error:
        return Gap(f"scores unreadable: {error}")
    if not all(isinstance(scores, dict) and scores.get("made_from") == inputs["made_from"] for scores in written):
        weights = written[0].get("weights") if isinstance(written[0], dict) else None
        return Gap("other weights" if weights != inputs["weights"] else "calibration samples changed")
    return None


def replaced_scores(run_dir: Path, inputs: dict[str, Any]) -> str | None:
    """One line on the scores that those of other calibration samples are about to replace; None where there are none.

    inputs: the content of the new score file beside the scores.
    """
    try:
        before = importance_files.read_score_file(scores_file(run_dir))
        samples, made_from = before["calibration"], before["made_from"]
        if samples == inputs["calibration"]:
            return None
        counts = ", ".join(f"{number} of {name}" for name, number in samples["benchmarks"].items())
    except (OSError, UserError, KeyError, TypeError, AttributeError):
        return None
    return f"{scores_file(run_dir)}: replaces the scores {made_from}, of other calibration samples: {counts}"


def _show(run: RunConfig, path: Path, k: int) -> None:
    """Print the `k` most important layers by each formula."""
    scores = importance_files.read_scores(path, model=identity.base_identity(run), num_layers=run.model.num_layers)
    print(f"{run.model.name}, {path.parent.name}: the {k} most important layers")
    width = max(map(len, scores))
    for name, values in scores.items():
        num_scored = len(values) - values.count(None)
        layers = rules.most_important(run.model.num_layers, min(k, num_scored), scores=values)
        print(f"  {name:<{width}}  {', '.join(map(str, layers))}")
    print(f"scores: {path}")
