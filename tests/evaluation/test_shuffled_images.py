"""The control that asks each question with the picture of another question."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.composing import composed

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.config.shuffled_images import SUFFIX
from vrx.evaluation import benchmarks, evaluate_run
from vrx.evaluation.families import Sample
from vrx.evaluation.shuffled_images import with_other_images
from vrx.jobs.evaluate.driver import evaluate, progress
from vrx.metrics.answer import Answer
from vrx.report.run_summary import format_run_summary, mean_score
from vrx.runs.content_digest import image_digest
from vrx.runs.record import read_record

Make = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six files of five pictures: the last one is a copy of the first."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * (number % 5), 0, 0)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def asked(pictures: list[Path], numbers: list[int | None]) -> list[Sample]:
    images = [None if number is None else pictures[number] for number in numbers]
    return [Sample(f"{n}?", image, Answer(str(n), "", ("x",))) for n, image in enumerate(images)]


@given(numbers=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=30))
def test_no_question_keeps_its_picture_and_texts_stay(pictures: list[Path], numbers: list[int | None]):
    samples = asked(pictures, numbers)
    contents = {image_digest(sample.image) for sample in samples if sample.image}
    if len(contents) == 1:
        with pytest.raises(UserError, match="all questions of b have the same picture"):
            with_other_images("b", samples)
        return
    shuffled = with_other_images("b", samples)
    for sample, other in zip(samples, shuffled, strict=True):
        assert (sample.prompt, sample.answer) == (other.prompt, other.answer)
        assert (sample.image is None) == (other.image is None)
        if sample.image and other.image:
            assert image_digest(other.image) != image_digest(sample.image), "not even a copy of its own picture"
    assert {image_digest(sample.image) for sample in shuffled if sample.image} == contents


def test_the_pictures_depend_on_neither_order_nor_file_names(pictures: list[Path]):
    samples = asked(pictures, [0, 1, 2, 3, 4, 1])
    images = {sample.answer.id: sample.image for sample in with_other_images("b", samples)}
    assert {sample.answer.id: sample.image for sample in with_other_images("b", samples[::-1])} == images
    assert images["1"] == images["5"], "questions of one picture stay together, as the rotations of a question do"
    copied = asked(pictures, [5, 1, 2, 3, 4, 1])
    digests = [image_digest(sample.image) for sample in with_other_images("b", copied) if sample.image]
    assert digests == [image_digest(images[str(n)]) for n in range(6)]


def test_a_limit_leaves_every_question_its_picture(make_run: Make):
    config = make_run("job=evaluate", "benchmark=tiny_gqa", "eval.shuffle_images=true").benchmark["tiny_gqa" + SUFFIX]
    everything = benchmarks.samples("tiny_gqa" + SUFFIX, config, limit=None)
    assert benchmarks.samples("tiny_gqa" + SUFFIX, config, limit=3) == everything[:3]


def test_only_whole_evaluations_are_shuffled():
    with pytest.raises(UserError, match=r"benchmark.tiny_gqa.shuffle_images=true: is set by eval.shuffle_images"):
        composed(["benchmark=tiny_gqa", "benchmark.tiny_gqa.shuffle_images=true"])
    with pytest.raises(UserError, match=r"eval.shuffle_images=true: valid with job=evaluate or job=finetune"):
        composed(["job=score", "eval.shuffle_images=true"])


def test_a_benchmark_of_one_picture_is_refused_before_weights_load(make_run: Make, pictures: list[Path]):
    rows = [{"id": str(n), "question": "?", "answers": ["x"], "image": pictures[0].name} for n in range(3)]
    questions = pictures[0].with_suffix(".jsonl")
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = (f"benchmark.tiny_gqa.path={questions}", f"benchmark.tiny_gqa.image_folder={questions.parent}")
    run = make_run("job=evaluate", "benchmark=tiny_gqa", *place, "eval.shuffle_images=true")
    with pytest.raises(UserError, match=r"all questions of tiny_gqa have the same picture; leave it out of benchmark"):
        evaluate_run.check_benchmarks(run)
    questions.unlink()


@pytest.mark.parametrize("is_tuned", [True, False], ids=["of a finished run", "of an untouched model"])
def test_answers_and_scores_of_the_control_are_kept_apart(
    make_run: Make, world: Path, tuned: Path, tmp_path: Path, is_tuned: bool, capsys: pytest.CaptureFixture[str]
):
    options = ("job=evaluate", "benchmark=[tiny_gqa,tiny_mmlu]", "eval.limit=4", "wandb.mode=disabled")
    options += (f"runtime.output_root={tmp_path}", f"world.folder={world}/data/tiny")
    if is_tuned:
        options += (f"job.run={shutil.copytree(tuned, tmp_path / 'tuned')}",)
    real, control = make_run(*options), make_run(*options, "eval.shuffle_images=true")
    evaluate(real)
    run_dir = progress(real).run_dir
    assert run_dir is not None
    before, files = read_record(run_dir / "record.json"), {path: path.read_bytes() for path in run_dir.rglob("*.jsonl")}
    assert progress(control).reason == "no answers: tiny_gqa_shuffled_images"
    capsys.readouterr()
    evaluate(control)
    record = read_record(run_dir / "record.json")
    assert record.scores.keys() == {*before.scores, "tiny_gqa_shuffled_images", "tiny_mmlu_shuffled_images"}
    assert {name: record.scores[name] for name in before.scores} == before.scores
    assert all(path.read_bytes() == content for path, content in files.items())
    assert (progress(real).reason, progress(control).reason) == ("done", "done")
    answers = [(run_dir / "answers" / f"tiny_mmlu{end}.jsonl").read_text().splitlines()[1:] for end in ("", SUFFIX)]
    assert answers[0] == answers[1], "text-only questions are unaffected"
    assert "tiny_gqa, shuffled images" in capsys.readouterr().out
    assert "average, shuffled images" in format_run_summary(record, None)
    names = ["tiny_gqa", "tiny_mmlu"]
    first = next(line for line in format_run_summary(record, None).splitlines() if line.split()[0] == "average")
    assert f"{100 * (mean_score(record, names) or 0):.2f}" == first.split()[1], "controls are in no average of others"
