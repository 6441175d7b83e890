"""Run directories of an earlier version and of its embedded model, committed as it left them, are reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.composing import composed
from support.whole_runs import SMALL

from vrx.evaluation import evaluate_run
from vrx.report.collect import find_runs
from vrx.report.question_scores import question_scores

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"
FINISHED = "sparse_uniform-1_100pct_seed0_8c906dc5"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the old runs, below an output root in which the world's data are made."""
    monkeypatch.chdir(tmp_path)
    evaluate_run.make_world(composed(list(SMALL)))
    root = tmp_path / "outputs" / "finetune" / "tiny"
    shutil.copytree(OLD_RUNS, root)
    return root


def test_a_finished_run_of_the_previous_version_is_reported_with_its_scores_by_question(old: Path):
    (run,) = find_runs(old.parents[1])
    assert (run.folder.name, run.seed, run.layers) == (FINISHED, 0, {31})
    assert run.record.train is not None and run.record.train.mfu == pytest.approx(0.19997479)
    scores = question_scores([run])
    assert all(len(scores(run, name) or ()) == 6 for name in ("tiny_gqa", "tiny_mmlu"))
