"""The driver's part of measuring a run: which answers are missing, having them made, scoring, the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.frozen import freeze
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig
from vrx.evaluation import benchmarks, families, prediction_files, scoring
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.metrics.answer import Answer
from vrx.runs import content_digest, files, provenance
from vrx.runs.locks import shared_resource_lock
from vrx.runs.record import read_record


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


def finished(run: RunConfig, run_dir: Path, asked: dict[str, list[families.Sample]]) -> dict[str, Any] | None:
    """The record, where it holds just what the answers there score for everything asked."""
    path, found = run_dir / "record.json", have(run, run_dir, asked)
    if not path.exists() or len(found) < len(asked):
        return None
    try:
        record = read_record(path)
    except (ValueError, OSError) as error:
        log(f"{error}; it is made again from the answers there are")
        return None
    scores = _scores(run, run_dir, found)
    return record if scores.items() <= record["scores"].items() else None


def measure(run: RunConfig, run_dir: Path, asked: dict[str, list[families.Sample]]) -> dict[str, Any]:
    """Scores of the run's benchmarks, by name; answers that are missing are made first, by workers."""
    found = have(run, run_dir, asked)
    if len(found) < len(asked):
        files.write_atomic(run_dir / "config.yaml", freeze(run))
        launch("generate", run_dir, run.runtime)
        found = have(run, run_dir, asked)
    for name, read in found.items():
        prediction_files.update_references(run_dir, name, read)
    return _scores(run, run_dir, {name: found[name] for name in asked})


def _scores(run: RunConfig, run_dir: Path, found: Mapping[str, list[Answer]]) -> dict[str, Any]:
    """Entries of the record by benchmark, with what generation found out beside what the answers score."""
    scores = {}
    for name, read in found.items():
        agreement = prediction_files.read_header(run_dir, name).agreement
        told = {} if agreement is None else {"agreement_with_batch_1": agreement}
        scores[name] = scoring.score_benchmark(run.benchmark[name], read) | told
    return scores


def _before(path: Path) -> dict[str, Any]:
    """The record that is there; what is there and is none is put aside, for whoever wrote it."""
    try:
        return read_record(path) if path.exists() else {}
    except (ValueError, OSError):
        path.replace(path.with_name("record.json.broken"))
        return {}


def write_record(
    run_dir: Path,
    identity: dict[str, Any],
    layers: list[int],
    train: dict[str, Any] | None,
    scores: dict[str, Any],
    *,
    selectors: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `record.json`; scores of benchmarks measured by earlier commands, and names of selectors that chose these
    layers, stay in it."""
    path = run_dir / "record.json"
    before = _before(path)
    record = {
        **before,
        "run_id": files.digest(identity)[:8],
        "identity": identity,
        "layers": layers,
        "selectors": sorted({*before.get("selectors", ()), *selectors}),
        "train": train,
        "scores": {**before.get("scores", {}), **scores},
        "provenance": provenance.provenance(),
        **(more or {}),
    }
    files.write_json(path, record)
    return record
