"""Run directories of the previous version, committed as it left them: found finished, reported and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed
from support.whole_runs import PLAIN, SMALL, adapter, curve

from vrx.evaluation import evaluate_run
from vrx.jobs.evaluate.driver import progress as evaluate_progress
from vrx.jobs.finetune.driver import progress
from vrx.jobs.prune.driver import progress as prune_progress
from vrx.jobs.revert.driver import progress as revert_progress
from vrx.jobs.score.driver import progress as score_progress
from vrx.report.collect import find_runs
from vrx.report.question_scores import question_scores
from vrx.runs.record import read_record

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"
FINISHED, KILLED = "sparse_uniform-1_100pct_seed0_8c906dc5", "sparse_uniform-1_100pct_seed1_4ddf1fac"
OLD_JOBS = OLD_RUNS.with_name("old_jobs")  # on the finished run
OPTIONS = (*PLAIN, "layer_count=1_layer", "lora.r=1")  # that both runs were made with


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the old runs, below an output root in which the world's data are made."""
    monkeypatch.chdir(tmp_path)
    evaluate_run.make_world(composed(list(SMALL)))
    root = tmp_path / "outputs" / "finetune" / "tiny"
    shutil.copytree(OLD_RUNS, root)
    return root


def test_a_finished_run_of_the_previous_version_is_done(old: Path, vrx: Callable[..., Any]):
    before = {path: path.read_bytes() for path in (old / FINISHED).rglob("*") if path.is_file()}
    status = progress(composed([*SMALL, *OPTIONS]))
    assert (status.state, status.reason, status.run_dir) == ("done", "done", old / FINISHED)
    result = vrx(*OPTIONS)
    assert result.returncode == 0, result.stderr
    assert f"{FINISHED}: done; nothing to do" in result.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in old.iterdir()} == {FINISHED, KILLED}


def test_a_finished_run_of_the_previous_version_is_reported_with_its_scores_by_question(old: Path):
    (run,) = find_runs(old.parents[1])
    assert (run.folder.name, run.seed, run.layers) == (FINISHED, 0, {31})
    assert run.record.train is not None and run.record.train.mfu == pytest.approx(0.19997479)
    scores = question_scores([run])
    assert all(len(scores(run, name) or ()) == 6 for name in ("tiny_gqa", "tiny_mmlu"))


def test_a_killed_run_of_the_previous_version_is_resumed_to_the_bits_of_an_undisturbed_one(
    old: Path, vrx: Callable[..., Any], tmp_path: Path
):
    status = progress(composed([*SMALL, *OPTIONS, "seed=1"]))
    assert (status.state, status.reason, status.run_dir) == ("resumable", "checkpoint at step 2", old / KILLED)
    frozen = (old / KILLED / "config.yaml").read_bytes()
    resumed = vrx(*OPTIONS, "seed=1")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step 2" in resumed.stderr or "step 2" in resumed.stderr
    assert (old / KILLED / "config.yaml").read_bytes() == frozen
    undisturbed = vrx(*OPTIONS, "seed=1", f"runtime.output_root={tmp_path / 'again'}")
    assert undisturbed.returncode == 0, undisturbed.stderr
    (again,) = (tmp_path / "again" / "finetune" / "tiny").iterdir()
    assert adapter(old / KILLED) == adapter(again)
    assert curve(old / KILLED) == curve(again)
    assert read_record(old / KILLED / "record.json").scores == read_record(again / "record.json").scores


JOBS = {
    "evaluate": (evaluate_progress, ()),
    "prune": (prune_progress, ("prune.layers=[5]", "prune.save=false")),
    "revert": (revert_progress, ("revert.layers=[31]",)),
    "score": (score_progress, ("score.samples_per_benchmark=2", "score.benchmarks=[tiny_gqa]")),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_finished_job_of_the_previous_version_is_done(old: Path, job: str):
    shutil.copytree(OLD_JOBS, old.parents[1], dirs_exist_ok=True)
    progress_of_job, options = JOBS[job]
    source = () if job == "evaluate" else (f"job.run={old / FINISHED}",)
    status = progress_of_job(composed([*SMALL, *OPTIONS, f"job={job}", *options, *source]))
    assert (status.state, status.reason) == ("done", "done")
    assert status.run_dir is not None and (OLD_JOBS / job / "tiny" / status.run_dir.name).is_dir()
