"""The driver's part of measuring a run: which answers are missing, having them made, scoring, the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vrx import answers, benchmarks, records
from vrx.config import RunConfig, freeze, named
from vrx.distributed import launch


def make_world(run: RunConfig) -> None:
    """Make the data of a model that brings its own world, if this run uses any of it."""
    if run.world is None:
        return
    used = [run.instructions.path, *(benchmark.path for benchmark in run.benchmark.values())]
    if any(path and Path(path).is_relative_to(run.world.folder) for path in used):
        named(run.world._target_)(run.world)


def check_benchmarks(run: RunConfig) -> dict[str, list[benchmarks.Sample]]:
    """The samples of every benchmark of the run; what is wrong with one is told now, not after hours of training."""
    if not run.benchmark:
        raise ValueError("benchmark=[]: name at least one benchmark or set")
    return {name: benchmarks.samples(name, config, limit=run.eval.limit) for name, config in run.benchmark.items()}


def missing(run: RunConfig, run_dir: Path, asked: dict[str, list[benchmarks.Sample]]) -> list[str]:
    """Benchmarks without a whole answer file made from the run's weights and these questions."""
    return [name for name, samples in asked.items() if len(_read(run, run_dir, name, samples)) < len(samples)]


def _read(run: RunConfig, run_dir: Path, name: str, samples: list[benchmarks.Sample]) -> dict[str, Any]:
    made_from = answers.key(answers.weights_digest(run.model, run_dir), samples, run.benchmark[name].max_new_tokens)
    return answers.read_answers(answers.answers_file(run_dir, name), made_from)


def measure(run: RunConfig, run_dir: Path, asked: dict[str, list[benchmarks.Sample]]) -> dict[str, Any]:
    """Scores of the run's benchmarks, by name; answers that are missing are made first, by workers."""
    if missing(run, run_dir, asked):
        records.write_atomic(run_dir / "config.yaml", freeze(run))
        launch("generate", run_dir, run.runtime)
    return {
        name: benchmarks.score(run.benchmark[name], list(_read(run, run_dir, name, samples).values()))
        for name, samples in asked.items()
    }


def write_record(
    run_dir: Path, identity: dict[str, Any], layers: list[int], train: dict[str, Any] | None, scores: dict[str, Any]
) -> dict[str, Any]:
    """Write `record.json`; scores of benchmarks measured by earlier commands stay in it."""
    path = run_dir / "record.json"
    before = records.read_json(path)["scores"] if path.is_file() else {}
    record = {
        "run_id": records.digest(identity)[:8],
        "identity": identity,
        "layers": layers,
        "train": train,
        "scores": {**before, **scores},
        "provenance": records.provenance(),
    }
    records.write_json(path, record)
    return record
