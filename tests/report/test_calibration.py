"""Released checkpoints next to their published scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.composing import composed
from support.report_runs import SPARSE, write_run

from vrx.config.paths import CONF
from vrx.config.released import Checkpoint, Released, load_released
from vrx.report.calibration import calibrate, calibration_as_markdown
from vrx.report.collect import Run
from vrx.report.paper_artifacts import artifact_as_text

LVLM = "someone/model-7b"


def evaluated(root: Path, lvlm: str | None = LVLM, *, layers: tuple[int, ...] = ()) -> Run:
    run = write_run(root, layers, model="m", columns=("gqa", "mmbench"))
    facts = dataclasses.replace(run.record.model, parts={"lvlm": lvlm} if lvlm else {})
    return Run(run.folder, dataclasses.replace(run.record, model=facts))


def released(run: Run, *, difference: float = 0.0, questions: int = 40, lvlm: str | None = LVLM) -> Released:
    scores = {"gqa": run.percent("gqa") + difference, "textvqa": 50.0}
    checkpoint = Checkpoint("M-7B", "m", lvlm, "a paper", scores, 1.0, {"gqa": questions})
    return Released((checkpoint,), {"gqa": "the prompt differs", "other": "the processor differs"})


@pytest.mark.parametrize(
    ("settings", "verdict", "hint"),
    [
        ({"difference": 0.99}, "pass", ""),
        ({"difference": -0.99}, "pass", ""),
        ({"difference": 1.01}, "fail", "the prompt differs; the processor differs"),
        ({"questions": 41}, "not comparable", "40 of 41 questions"),
    ],
)
def test_a_score_passes_within_its_tolerance_on_all_questions(tmp_path: Path, settings: dict, verdict: str, hint: str):
    run = evaluated(tmp_path)
    (entry,) = calibrate([run], released(run, **settings))
    assert (entry.benchmark, entry.verdict, entry.hint) == ("gqa", verdict, hint)


@pytest.mark.parametrize(
    ("lvlm", "wanted", "is_compared"),
    [
        (LVLM, LVLM, True),
        (f"{LVLM}@main", LVLM, True),
        ("/data/model-7b", LVLM, True),
        ("someone/model-13b", LVLM, False),
        (None, LVLM, False),
        (None, None, True),
        (LVLM, None, False),
    ],
)
def test_only_runs_of_the_checkpoint_are_compared(
    tmp_path: Path, lvlm: str | None, wanted: str | None, is_compared: bool
):
    run = evaluated(tmp_path, lvlm)
    assert bool(calibrate([run], released(run, lvlm=wanted))) == is_compared


def test_a_tuned_run_is_not_compared_and_the_command_is_named(tmp_path: Path):
    run = evaluated(tmp_path, layers=SPARSE)
    text = calibration_as_markdown([run], released=released(run))
    assert "no run of M-7B: `vrx evaluate model=m model.lvlm=someone/model-7b 'benchmark=[gqa,textvqa]'`" in text
    assert "|" not in text


def test_the_table_counts_what_passes(tmp_path: Path):
    run = evaluated(tmp_path)
    text = calibration_as_markdown([run], released=released(run, difference=0.5))
    assert "| −0.50 | **pass** |" in text and "1 of 1 scores" in text and "no run of" not in text
    assert "no run of tiny" in artifact_as_text("calibration", tmp_path, model="tiny")


@pytest.mark.parametrize("checkpoint", load_released().checkpoints, ids=lambda each: each.name)
def test_every_checkpoint_has_an_option_benchmarks_and_plausible_numbers(checkpoint: Checkpoint):
    assert (CONF / "model" / f"{checkpoint.model}.yaml").is_file()
    assert checkpoint.scores.keys() <= checkpoint.questions.keys() and checkpoint.source
    for name, score in checkpoint.scores.items():
        assert (CONF / "benchmark" / f"{name}.yaml").is_file() and 10 < score < 100
    words = checkpoint.command.replace("'", "").split()[2:]
    assert composed(["job=evaluate", *words]).model.lvlm == checkpoint.lvlm


@pytest.mark.parametrize("model", ["llava-1.5-7b", "tiny"])
def test_the_sweep_takes_the_released_weights_of_a_model_and_tiny_its_own(model: str):
    run = composed(["sweep=calibration", "job=evaluate", f"model={model}"])
    assert run.model.lvlm == {"llava-1.5-7b": "liuhaotian/llava-v1.5-7b", "tiny": None}[model]
