"""The driver's part of measuring a run: which answers are missing, having them made, scoring, the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrx import answers, benchmarks, records
from vrx.config import RunConfig, freeze, named
from vrx.distributed import log
from vrx.launching import launch
from vrx.locks import one_at_a_time
from vrx.metrics import Answer


def make_world(run: RunConfig) -> None:
    """Make the data of a model that brings its own world, if this run uses any of it."""
    if run.world is None:
        return
    used = [run.instructions.path, *(benchmark.path for benchmark in run.benchmark.values())]
    if any(path and Path(path).is_relative_to(run.world.folder) for path in used):
        with one_at_a_time(Path(run.world.folder)):
            named(run.world._target_)(run.world)


def check_benchmarks(run: RunConfig) -> dict[str, list[benchmarks.Sample]]:
    """The samples of every benchmark of the run; what is wrong with one is told now, not after hours of training."""
    if not run.benchmark:
        raise ValueError("benchmark=[]: name at least one benchmark or set")
    return {name: benchmarks.samples(name, config, limit=run.eval.limit) for name, config in run.benchmark.items()}


def have(run: RunConfig, run_dir: Path, asked: dict[str, list[benchmarks.Sample]]) -> dict[str, list[Answer]]:
    """The answers that are there already, by benchmark: whole files made from the run's weights and these questions."""
    weights = answers.weights_digest(run.model, run_dir)
    found = {}
    for name, samples in asked.items():
        config = run.benchmark[name]
        made_from = answers.key(weights, samples, config.max_new_tokens, ask=config.ask, dtype=run.train.dtype)
        read = answers.read_answers(answers.answers_file(run_dir, name), made_from)
        if len(read) == len(samples):
            found[name] = answers.given(samples, read)
    return found


def finished(run: RunConfig, run_dir: Path, asked: dict[str, list[benchmarks.Sample]]) -> dict[str, Any] | None:
    """The record, where it holds just what the answers there score for everything asked."""
    path, found = run_dir / "record.json", have(run, run_dir, asked)
    if not path.exists() or len(found) < len(asked):
        return None
    try:
        record = records.read_record(path)
    except (ValueError, OSError) as error:
        log(f"{error}; it is made again from the answers there are")
        return None
    scores = _scores(run, run_dir, found)
    return record if scores.items() <= record["scores"].items() else None


def measure(run: RunConfig, run_dir: Path, asked: dict[str, list[benchmarks.Sample]]) -> dict[str, Any]:
    """Scores of the run's benchmarks, by name; answers that are missing are made first, by workers."""
    found = have(run, run_dir, asked)
    if len(found) < len(asked):
        records.write_atomic(run_dir / "config.yaml", freeze(run))
        launch("generate", run_dir, run.runtime)
        found = have(run, run_dir, asked)
    for name, read in found.items():
        answers.keep_references(run_dir, name, read)
    return _scores(run, run_dir, {name: found[name] for name in asked})


def _scores(run: RunConfig, run_dir: Path, found: Mapping[str, list[Answer]]) -> dict[str, Any]:
    """Entries of the record by benchmark, with what generation found out beside what the answers score."""
    scores = {}
    for name, read in found.items():
        agreement = answers.header(run_dir, name).get("agreement")
        told = {} if agreement is None else {"agreement_with_batch_1": agreement}
        scores[name] = benchmarks.score(run.benchmark[name], read) | told
    return scores


def _before(path: Path) -> dict[str, Any]:
    """The record that is there; what is there and is none is put aside, for whoever wrote it."""
    try:
        return records.read_record(path) if path.exists() else {}
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
        "run_id": records.digest(identity)[:8],
        "identity": identity,
        "layers": layers,
        "selectors": sorted({*before.get("selectors", ()), *selectors}),
        "train": train,
        "scores": {**before.get("scores", {}), **scores},
        "provenance": records.provenance(),
        **(more or {}),
    }
    records.write_json(path, record)
    return record
