"""`vrx evaluate` on a finished run: its configuration and the provenance of its training are never touched."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

from vrx.config.frozen import load_frozen
from vrx.config.schema import EvalConfig, RunConfig
from vrx.evaluation import evaluate_run
from vrx.evaluation.prediction_files import read_header
from vrx.jobs.evaluate.driver import evaluate, progress
from vrx.report.collect import Run
from vrx.report.question_scores import benchmark_config, chance, question_scores
from vrx.runs.provenance import Provenance
from vrx.runs.record import Record, read_record
from vrx.runs.status import Gap

Make = Callable[..., RunConfig]
TRAINED_WITH = Provenance(git_commit="a" * 40, dirty=False, python="3.0", device_name="Z1", device_count=8, tf32=True)


@pytest.fixture
def run_dir(tuned: Path) -> Path:
    """A finished run of the small world, trained elsewhere, long ago."""
    folder = tuned.with_name("elsewhere_00000000")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tuned, folder)
    record = read_record(folder / "record.json")
    record.provenance.train = TRAINED_WITH
    record.write(folder / "record.json")
    return folder


def evaluated(make_run: Make, run_dir: Path, *overrides: str) -> Record:
    evaluate(make_run("job=evaluate", f"job.run={run_dir}", "wandb.mode=disabled", "eval.limit=3", *overrides))
    return read_record(run_dir / "record.json")


def test_a_new_evaluation_leaves_the_provenance_of_the_training_alone(make_run: Make, run_dir: Path):
    record = evaluated(make_run, run_dir, "benchmark=tiny_gqa")
    assert record.provenance.train == TRAINED_WITH
    assert record.provenance.evaluations.keys() == {"tiny_gqa"}
    first = record.provenance.evaluations["tiny_gqa"]
    assert first.python != "3.0" and first.device_count == 1 and first.device_name and first.tf32 is False


def test_the_provenance_of_an_evaluation_is_that_of_its_answers(make_run: Make, run_dir: Path):
    first = evaluated(make_run, run_dir, "benchmark=tiny_gqa")
    first.provenance.evaluations["tiny_gqa"].git_commit = "b" * 40
    first.write(run_dir / "record.json")
    both = evaluated(make_run, run_dir, "benchmark=tiny_mmlu")
    assert both.provenance.evaluations["tiny_gqa"].git_commit == "b" * 40
    assert both.provenance.evaluations["tiny_mmlu"].git_commit != "b" * 40
    assert both.scores.keys() == {"tiny_gqa", "tiny_mmlu"}


def test_the_frozen_configuration_is_written_once(make_run: Make, run_dir: Path):
    before = (run_dir / "config.yaml").read_bytes()
    evaluated(make_run, run_dir, "benchmark=[tiny_mmlu,tiny_scienceqa]", "eval.batch_size=2")
    assert (run_dir / "config.yaml").read_bytes() == before
    assert load_frozen(run_dir / "config.yaml").benchmark.keys() == {"tiny_gqa"}


def test_each_benchmark_is_scored_again_with_the_settings_of_its_own_score(make_run: Make, run_dir: Path):
    evaluated(make_run, run_dir, "benchmark=tiny_gqa", "benchmark.tiny_gqa.metric=containment")
    record = evaluated(make_run, run_dir, "benchmark=tiny_mmlu")
    run = Run(run_dir, record)
    assert dataclasses.replace(load_frozen(run_dir / "config.yaml")).benchmark["tiny_gqa"].metric == "gqa_match"
    settings = benchmark_config(run, "tiny_gqa")
    assert settings is not None and settings.metric == "containment"
    scores = question_scores([run])
    assert all(scores(run, name) is not None for name in ("tiny_gqa", "tiny_mmlu"))


def test_a_metric_that_changes_is_scored_from_the_same_answers(make_run: Make, run_dir: Path):
    evaluated(make_run, run_dir, "benchmark=tiny_gqa")
    before = read_header(run_dir, "tiny_gqa")
    evaluated(make_run, run_dir, "benchmark=tiny_gqa", "benchmark.tiny_gqa.metric=containment")
    after = read_header(run_dir, "tiny_gqa")
    assert after.benchmark is not None and after.benchmark["metric"] == "containment"
    assert dataclasses.replace(after, benchmark=before.benchmark) == before


def test_an_evaluation_says_why_it_is_not_done(make_run: Make, run_dir: Path):
    def reason(*overrides: str) -> tuple[str, str]:
        options = ("job=evaluate", f"job.run={run_dir}", "benchmark=tiny_gqa", "eval.limit=3")
        status = progress(make_run(*options, *overrides))
        return status.state, status.reason

    assert reason() == ("to do", "no answers: tiny_gqa")
    evaluated(make_run, run_dir, "benchmark=tiny_gqa")
    files = {path: path.stat().st_mtime_ns for path in run_dir.parents[2].rglob("*")}
    assert reason() == ("done", "done")
    assert reason("benchmark=[tiny_gqa,tiny_mmlu]") == ("resumable", "no answers: tiny_mmlu")
    assert reason("eval.limit=2") == ("to do", "question changed: tiny_gqa")
    assert reason("benchmark.tiny_gqa.max_new_tokens=3") == ("to do", "generation changed: tiny_gqa")
    assert reason("benchmark.tiny_gqa.metric=containment") == ("resumable", "scores changed: tiny_gqa")
    assert {path: path.stat().st_mtime_ns for path in run_dir.parents[2].rglob("*")} == files, "the check is read-only"
    record = (run_dir / "record.json").read_text()
    (run_dir / "record.json").write_text(record[:40])
    run = dataclasses.replace(load_frozen(run_dir / "config.yaml"), eval=EvalConfig(limit=3))
    samples = evaluate_run.check_benchmarks(run)
    gap = evaluate_run.evaluation_gap(run, run_dir, samples)
    assert gap is not None and gap.reason.startswith(f"record unreadable: {run_dir / 'record.json'}: not valid JSON")
    (run_dir / "record.json").unlink()
    assert evaluate_run.evaluation_gap(run, run_dir, samples) == Gap("no record", is_started=True)
    (run_dir / "record.json").write_text(record)
    weights = run_dir / "adapter" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert reason() == ("to do", "other weights")


def test_the_record_has_the_chance_level_and_is_done_without_it(make_run: Make, run_dir: Path):
    record = evaluated(make_run, run_dir, "benchmark=[tiny_gqa,tiny_mmlu]")
    lines = (run_dir / "answers" / "tiny_mmlu.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    expected = mean(1 / len(json.loads(line)["choices"]) for line in lines)
    assert record.scores["tiny_mmlu"].chance == pytest.approx(expected)
    level = record.scores["tiny_gqa"].chance
    assert level is not None and chance(Run(run_dir, record), "tiny_gqa") == level
    for entry in record.scores.values():
        entry.chance = None
    record.write(run_dir / "record.json")
    options = ("job=evaluate", f"job.run={run_dir}", "benchmark=[tiny_gqa,tiny_mmlu]", "eval.limit=3")
    assert progress(make_run(*options)).reason == "done", "records of older versions have no chance levels"
    assert chance(Run(run_dir, read_record(run_dir / "record.json")), "tiny_gqa") == level
