"""The driver's part of measuring a run: which answers are missing, having them made, scoring, the record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.paths import refuse_foreign_folder
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig, ModelConfig, RunConfig
from vrx.data import world_folder
from vrx.evaluation import benchmarks, families, prediction_files, scoring
from vrx.evaluation.chance import chance_level
from vrx.evaluation.prediction_files import PredictionHeader
from vrx.launch.workers import launch
from vrx.metrics.answer import Answer
from vrx.runs import content_digest, files
from vrx.runs.locks import shared_resource_lock
from vrx.runs.provenance import Provenance
from vrx.runs.record import LayerScores, PrunedInfo, Record, ScoreEntry, model_facts, read_record, with_selectors
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir
from vrx.runs.status import Gap
from vrx.runs.train_summary import TrainSummary
from vrx.runs.typed_json import from_json

SCORING_KEYS = ("metric", "extra_metrics", "aggregate", "mean_per_type", "normalized_mean_per_type")


BenchmarkSamples = dict[str, list[families.Sample]]


def make_world(run: RunConfig) -> None:
    """Make the data of a model that brings its own world, if this run uses any of it.

    `UserError` with the command that prepares the parts of the model, where the world has one and a part is missing.
    """
    if run.world is None:
        return
    _require_prepared(run)
    used = [run.instructions.path, run.captions.path, *(benchmark.path for benchmark in run.benchmark.values())]
    if any(path and Path(path).is_relative_to(run.world.folder) for path in used):
        refuse_foreign_folder(Path(run.world.folder), world_folder.DESCRIPTION, key="world.folder")
        with shared_resource_lock(Path(run.world.folder)):
            resolve_name("world", run.world.name, key="world.name")(run.world)


def _require_prepared(run: RunConfig) -> None:
    """Refuse parts of a model that are not prepared yet: folders beside the world's pictures that do not exist."""
    if run.world is None or run.world.pictures is None:
        return
    for part in ("backbone", "vision_tower"):
        path = Path(getattr(run.model, part))
        if path.parent == Path(run.world.pictures).parent and not path.is_dir():
            raise UserError(f"model.{part}={path}: no such folder; to make it: {run.world.prepare}")


def check_benchmarks(run: RunConfig, *, read_only: bool = False) -> BenchmarkSamples:
    """The samples of every benchmark of the run; `UserError` for one that is broken, before hours of training.

    read_only: nothing is downloaded or converted; `NotConverted` where that is still to be done.
    """
    if not run.benchmark:
        raise UserError("benchmark=[]: name at least one benchmark or set")
    return {
        name: benchmarks.samples(name, config, limit=run.eval.limit, read_only=read_only)
        for name, config in run.benchmark.items()
    }


@dataclass(frozen=True)
class ExistingAnswers:
    """Complete answers by benchmark, and for every other benchmark the reason why it has none."""

    answers: dict[str, list[Answer]]
    missing: dict[str, str]


def existing_answers(run: RunConfig, run_dir: Path, samples: BenchmarkSamples) -> ExistingAnswers:
    """The answers that are complete and made from the run's weights and these questions."""
    weights = content_digest.weights_digest(run.model, run_dir)
    answers, missing = {}, {}
    for name, questions in samples.items():
        config = run.benchmark[name]
        key = prediction_files.predictions_key(
            weights, questions, config.max_new_tokens, output_type=config.output_type, dtype=run.train.dtype
        )
        predictions = prediction_files.load_predictions(RunDir(run_dir).predictions(name))
        if predictions is None:
            missing[name] = f"no answers: {name}"
        elif predictions.header.key != key:
            digest = prediction_files.questions_digest(questions, output_type=config.output_type)
            missing[name] = _key_difference(name, predictions.header, weights, digest)
        elif len(predictions.answers) < len(questions):
            missing[name] = f"answers incomplete: {name}"
        else:
            answers[name] = prediction_files.with_current_references(questions, predictions.answers)
    return ExistingAnswers(answers, missing)


def _key_difference(name: str, header: PredictionHeader, weights: str, questions: str) -> str:
    """Why answers with another key are not those that are wanted."""
    if header.weights is None or header.questions is None:
        return f"question or weights changed: {name}"
    if header.weights != weights:
        return "other weights"
    return f"question changed: {name}" if header.questions != questions else f"generation changed: {name}"


def evaluation_gap(run: RunConfig, run_dir: Path, samples: BenchmarkSamples) -> Gap | None:
    """What the evaluation of a run lacks: answers, a record, or in the record the scores that the answers give."""
    existing = existing_answers(run, run_dir, samples)
    if existing.missing:
        return Gap(next(iter(existing.missing.values())), is_started=bool(existing.answers))
    if not RunDir(run_dir).record.exists():
        return Gap("no record", is_started=True)
    try:
        record = read_record(RunDir(run_dir).record)
    except (ValueError, OSError) as error:
        return Gap(f"record unreadable: {error}", is_started=True)
    for name, entry in _scores(run, run_dir, existing.answers).items():
        if name not in record.scores:
            return Gap(f"no score: {name}", is_started=True)
        settings_changed = not _is_scored_with(prediction_files.read_header(run_dir, name), run.benchmark[name])
        if settings_changed or record.scores[name] != entry:
            return Gap(f"scores changed: {name}", is_started=True)
    return None


def _is_scored_with(header: PredictionHeader, config: BenchmarkConfig) -> bool:
    """Whether answers were scored with these settings, as far as their file says."""
    settings = header.benchmark
    return settings is None or all(settings.get(key) == getattr(config, key) for key in SCORING_KEYS)


def measure(run: RunConfig, run_dir: Path, samples: BenchmarkSamples) -> dict[str, ScoreEntry]:
    """Scores of the run's benchmarks, by name; answers that are missing are made first, by workers."""
    existing = existing_answers(run, run_dir, samples)
    if existing.missing:
        write_config(run_dir, run)
        launch("generate", run_dir, run.runtime)
        existing = existing_answers(run, run_dir, samples)
    for name, answers in existing.answers.items():
        prediction_files.remove_parts(run_dir, name)  # of a command that was killed while it joined them
        prediction_files.update_scored(run_dir, name, answers, run.benchmark[name])
    answers = {name: existing.answers[name] for name in samples}
    chance = {name: chance_level(run.benchmark[name], of_benchmark) for name, of_benchmark in answers.items()}
    scores = _scores(run, run_dir, answers)
    return {name: dataclasses.replace(entry, chance=chance[name]) for name, entry in scores.items()}


def _scores(run: RunConfig, run_dir: Path, answers: Mapping[str, list[Answer]]) -> dict[str, ScoreEntry]:
    """Entries of the record by benchmark, with what generation measured beside what the answers score."""
    scores = {}
    for name, of_benchmark in answers.items():
        agreement = prediction_files.read_header(run_dir, name).agreement
        measured = {} if agreement is None else {"agreement_with_batch_1": agreement}
        scores[name] = from_json(ScoreEntry, scoring.score_benchmark(run.benchmark[name], of_benchmark) | measured)
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
    layer_kinds: list[str] | None = None,
    layer_scores: LayerScores | None = None,
) -> Record:
    """Write `record.json`; what earlier commands recorded and this one does not name stays in it.

    Provenance: of the training as in `train`, of each evaluation as in the header of its predictions.
    """
    before = _existing_record(RunDir(run_dir))
    record = Record(files.digest(identity)[:8], identity, model_facts(model), layers, {})
    record = (before and dataclasses.replace(before, layers=layers)) or record
    record.scores |= scores
    if train is not None:
        record.train = dataclasses.replace(train, provenance=None, result=None)
        record.provenance.train = train.provenance
    for name in scores:
        header = prediction_files.load_header(RunDir(run_dir).predictions(name))
        if header and header.provenance is not None:  # else made before provenance was kept with the answers
            record.provenance.evaluations[name] = from_json(Provenance, header.provenance)
    record.pruned = pruned or record.pruned
    record.layer_kinds = layer_kinds or record.layer_kinds
    record.layer_scores = record.layer_scores or layer_scores
    record = with_selectors(record, selectors)
    record.write(RunDir(run_dir).record)
    return record
