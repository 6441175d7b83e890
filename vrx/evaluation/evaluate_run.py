"""The driver's part of measuring a run: which answers are missing, having them made, scoring, the record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig, ModelConfig, RunConfig
from vrx.evaluation import benchmarks, families, prediction_files, scoring
from vrx.evaluation.prediction_files import PredictionHeader
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.metrics.answer import Answer
from vrx.runs import content_digest, files
from vrx.runs.locks import shared_resource_lock
from vrx.runs.provenance import Provenance
from vrx.runs.record import PrunedInfo, Record, ScoreEntry, model_facts, read_record, with_selectors
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import TrainSummary
from vrx.runs.typed_json import from_json

SCORING_KEYS = ("metric", "extra_metrics", "aggregate", "mean_per_type", "normalized_mean_per_type")


def make_world(run: RunConfig) -> None:
    """Make the data of a model that brings its own world, if this run uses any of it."""
    if run.world is None:
        return
    used = [run.instructions.path, *(benchmark.path for benchmark in run.benchmark.values())]
    if any(path and Path(path).is_relative_to(run.world.folder) for path in used):
        with shared_resource_lock(Path(run.world.folder)):
            resolve_name("world", run.world.name, key="world.name")(run.world)


def check_benchmarks(run: RunConfig) -> dict[str, list[families.Sample]]:
    """The samples of every benchmark of the run; what is wrong with one is told now, not after hours of training."""
    if not run.benchmark:
        raise UserError("benchmark=[]: name at least one benchmark or set")
    return {name: benchmarks.samples(name, config, limit=run.eval.limit) for name, config in run.benchmark.items()}


def have(run: RunConfig, run_dir: Path, asked: dict[str, list[families.Sample]]) -> dict[str, list[Answer]]:
    """The answers that are there already, by benchmark: whole files made from the run's weights and these questions."""
    weights = content_digest.weights_digest(run.model, run_dir)
    found = {}
    for name, samples in asked.items():
        config = run.benchmark[name]
        made_from = prediction_files.predictions_key(
            weights, samples, config.max_new_tokens, output_type=config.output_type, dtype=run.train.dtype
        )
        read = prediction_files.read_predictions(prediction_files.predictions_file(run_dir, name), made_from)
        if len(read) == len(samples):
            found[name] = prediction_files.with_current_references(samples, read)
    return found


def finished(run: RunConfig, run_dir: Path, asked: dict[str, list[families.Sample]]) -> Record | None:
    """The record, where it holds just what the answers there score for everything asked."""
    path, found = RunDir(run_dir).record, have(run, run_dir, asked)
    if not path.exists() or len(found) < len(asked):
        return None
    try:
        record = read_record(path)
    except (ValueError, OSError) as error:
        log(f"{error}; it is made again from the answers there are")
        return None
    scores = _scores(run, run_dir, found)
    same = all(_is_scored_with(prediction_files.read_header(run_dir, name), run.benchmark[name]) for name in scores)
    return record if same and scores.items() <= record.scores.items() else None


def _is_scored_with(header: PredictionHeader, config: BenchmarkConfig) -> bool:
    """Whether answers were scored with these settings, as far as their file says."""
    settings = header.benchmark
    return settings is None or all(settings.get(key) == getattr(config, key) for key in SCORING_KEYS)


def measure(run: RunConfig, run_dir: Path, asked: dict[str, list[families.Sample]]) -> dict[str, ScoreEntry]:
    """Scores of the run's benchmarks, by name; answers that are missing are made first, by workers."""
    found = have(run, run_dir, asked)
    if len(found) < len(asked):
        write_config(run_dir, run)
        launch("generate", run_dir, run.runtime)
        found = have(run, run_dir, asked)
    for name, read in found.items():
        prediction_files.update_scored(run_dir, name, read, run.benchmark[name])
    return _scores(run, run_dir, {name: found[name] for name in asked})


def _scores(run: RunConfig, run_dir: Path, found: Mapping[str, list[Answer]]) -> dict[str, ScoreEntry]:
    """Entries of the record by benchmark, with what generation found out beside what the answers score."""
    scores = {}
    for name, read in found.items():
        agreement = prediction_files.read_header(run_dir, name).agreement
        told = {} if agreement is None else {"agreement_with_batch_1": agreement}
        scores[name] = from_json(ScoreEntry, scoring.score_benchmark(run.benchmark[name], read) | told)
    return scores


def _existing_record(run_dir: RunDir) -> Record | None:
    """The record that lies there; an unreadable one is moved aside, for whoever wrote it."""
    try:
        return read_record(run_dir.record) if run_dir.record.exists() else None
    except (ValueError, OSError):
        run_dir.record.replace(run_dir.broken_record)
        return None


def write_record(
    run_dir: Path,
    model: ModelConfig,
    identity: dict[str, Any],
    layers: list[int],
    scores: dict[str, ScoreEntry],
    *,
    train: TrainSummary | None = None,
    selectors: Sequence[str] = (),
    pruned: PrunedInfo | None = None,
) -> Record:
    """Write `record.json`; what earlier commands recorded and this one does not name stays in it.

    Provenance: of the training as in `train`, of each evaluation as in the header of its predictions.
    """
    before = _existing_record(RunDir(run_dir))
    record = Record(files.digest(identity)[:8], identity, model_facts(model), layers, {})
    record = (before and dataclasses.replace(before, layers=layers)) or record
    record.scores |= scores
    if train is not None:
        record.train = dataclasses.replace(train, provenance=None)
        record.provenance.train = train.provenance
    for name in scores:
        header = prediction_files.load_header(RunDir(run_dir).predictions(name))
        if header and header.provenance is not None:  # else made before provenance was kept with the answers
            record.provenance.evaluations[name] = from_json(Provenance, header.provenance)
    record.pruned = pruned or record.pruned
    record = with_selectors(record, selectors)
    record.write(RunDir(run_dir).record)
    return record
