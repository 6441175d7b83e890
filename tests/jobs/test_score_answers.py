"""`vrx score-answers`: the same answers give the same scores, whoever wrote their file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.report_runs import ALL, write_benchmark, write_run

from vrx.config.errors import UserError
from vrx.config.job_options import ScoreAnswersConfig
from vrx.config.schema import BenchmarkConfig, JobConfig, RunConfig
from vrx.evaluation.prediction_files import load_predictions
from vrx.jobs.report.driver import report
from vrx.jobs.score_answers.driver import score_answers
from vrx.report.collect import Run, find_runs

NAMES = ("gqa", "mmbench")
FROZEN = Path(__file__).parents[2] / "docs" / "results" / "tiny" / "evaluate" / "tiny"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("outputs"), ALL, columns=NAMES)


def command(root: Path, *names: str, run_dir: Path | None = None, **options: str | None) -> RunConfig:
    run = RunConfig()
    run.job = JobConfig("score_answers", str(run_dir) if run_dir else None)
    run.model.name, run.model.num_layers = "any", 32
    run.runtime.output_root, run.wandb.mode = str(root), "disabled"
    run.benchmark = {name: write_benchmark(root, name) for name in names}
    run.score_answers = ScoreAnswersConfig(**options)
    return run


def test_our_answers_written_for_others_score_the_same(answered: Run, tmp_path: Path):
    root = answered.folder.parents[2]
    for_others = tmp_path / "for others"
    score_answers(command(root, *NAMES, run_dir=answered.folder, write_to=str(for_others)))
    files = sorted(path for path in for_others.rglob("*") if path.is_file())
    assert len(files) == 3 * len(NAMES)
    for path in files:
        (name,) = [name for name in NAMES if path.stem.endswith(name)]
        score_answers(command(root, name, file=str(path), name=path.parent.name))
    theirs = [run for run in find_runs(root) if run.is_from_elsewhere]
    assert sorted(run.model for run in theirs) == ["llava", "lmms_eval", "vlmevalkit"]
    for run in theirs:
        for name in NAMES:
            scored, ours = run.record.scores[name], answered.record.scores[name]
            assert (scored.value, scored.stderr, scored.num_samples) == (ours.value, ours.stderr, ours.num_samples)
            assert scored.chance is not None
        assert not run.is_untouched
    report(command(root))
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert "3 models by their answers alone" in page and "vlmevalkit: answers_" in page


BAD = {
    "score_answers.file=None: valid is either": {},
    "score_answers.name=null": {"file": "any.jsonl"},
    "job.run=null": {"write_to": "anywhere"},
    "score_answers.file=absent.jsonl: cannot be read": {"file": "absent.jsonl", "name": "m"},
}


@pytest.mark.parametrize("message", BAD)
def test_a_command_that_cannot_work_is_refused(answered: Run, message: str):
    with pytest.raises(UserError, match=message):
        score_answers(command(answered.folder.parents[2], "gqa", **BAD[message]))


def test_one_file_is_of_one_benchmark_of_texts(answered: Run):
    root = answered.folder.parents[2]
    with pytest.raises(UserError, match=r"benchmark=\[gqa,mmbench\]"):
        score_answers(command(root, *NAMES, file="a.jsonl", name="m"))
    run = command(root, "gqa", file="a.jsonl", name="m")
    run.benchmark["gqa"] = dataclasses.replace(run.benchmark["gqa"], output_type="letters")
    with pytest.raises(UserError, match=r"benchmark=\[gqa\]: needs letters"):
        score_answers(run)


def command_on_boxes(root: Path, text: str, scale: str | None) -> RunConfig:
    """Two equal questions about the box of a region, both answered with a text."""
    row = {"question": "the dog", "box": [64, 48, 320, 240], "width": 640, "height": 480}
    rows = {
        "questions": [{"id": name, **row} for name in "ab"],
        "answers": [{"question_id": name, "text": text} for name in "ab"],
    }
    for name, lines in rows.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = command(root, file=str(root / "answers.jsonl"), name="theirs")
    path = str(root / "questions.jsonl")
    metric = "box_accuracy_in_frame"
    run.benchmark = {"refcocog": BenchmarkConfig(family="grounding", path=path, metric=metric, box_scale=scale)}
    return run


@pytest.mark.parametrize(
    ("text", "scale"), [("[0.1, 0.1, 0.5, 0.5]", None), ("[100, 100, 500, 500]", "1000"), ("(16,16),(80,80)", "160")]
)
def test_boxes_are_read_in_the_coordinates_that_the_benchmark_names(tmp_path: Path, text: str, scale: str | None):
    score_answers(command_on_boxes(tmp_path, text, scale))
    (run,) = find_runs(tmp_path)
    assert run.record.scores["refcocog"].value == run.record.scores["refcocog"].chance == 1
    predictions = load_predictions(run.folder / "answers" / "refcocog.jsonl")
    assert predictions is not None
    frame = (float(scale), float(scale)) if scale else None
    assert [answer.box_frame for answer in predictions.answers.values()] == [frame, frame]


def test_boxes_in_pixels_of_a_resized_picture_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"^benchmark\.refcocog\.box_scale=resized: .*; valid is a number"):
        score_answers(command_on_boxes(tmp_path, "[1, 2, 3, 4]", "resized"))


def test_nothing_is_overwritten_and_an_unfinished_run_is_named(answered: Run, tmp_path: Path):
    root = answered.folder.parents[2]
    run = command(root, "gqa", run_dir=answered.folder, write_to=str(tmp_path))
    score_answers(run)
    with pytest.raises(UserError, match=r"write_to=.* exists; name another folder"):
        score_answers(run)
    with pytest.raises(UserError, match=r"holds no record.json"):
        score_answers(command(root, "gqa", run_dir=tmp_path, write_to=str(tmp_path / "new")))
    with pytest.raises(UserError, match=r"benchmark=\[textvqa\]: not answered by .*; valid: \[gqa,mmbench\]"):
        score_answers(command(root, "textvqa", run_dir=answered.folder, write_to=str(tmp_path / "new")))


@pytest.mark.parametrize(
    ("spoilt", "verdict"),
    [(0, "| 17.08 | 0.00 | **pass** |"), (30, "| 4.58 | −12.50 | **fail**: the image processor")],
)
def test_frozen_answers_of_the_embedded_model_pass_the_calibration_until_some_are_spoilt(
    tmp_path: Path, spoilt: int, verdict: str
):
    (file,) = FROZEN.glob("untouched_*/answers/tiny_gqa.jsonl.xz")
    predictions = load_predictions(file.with_suffix(""))
    assert predictions is not None
    answers = list(predictions.answers.values())
    wrong = [answer.id for answer in answers if answer.text in answer.references][:spoilt]
    files = {
        "questions": [{"id": each.id, "question": "?", "answers": each.references} for each in answers],
        "answers": [{"question_id": each.id, "text": "" if each.id in wrong else each.text} for each in answers],
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = command(tmp_path, file=str(tmp_path / "answers.jsonl"), name="tiny")
    path = str(tmp_path / "questions.jsonl")
    run.benchmark = {"tiny_gqa": BenchmarkConfig(family="short_answer", path=path, metric="gqa_match")}
    score_answers(run)
    report(run)
    table = (tmp_path / "report" / "tables" / "calibration.md").read_text(encoding="utf-8")
    assert f"| tiny | tiny_gqa | 17.08 {verdict}" in table
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert verdict.split("*")[2] in page[page.index("Published scores of released checkpoints") :]
