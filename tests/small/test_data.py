"""The small world on disk: reproducible, complete, with test pictures that training does not have."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.composing import composed
from support.small_world import build_world, make_pictures

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig, WorldConfig
from vrx.data.instructions import instruction_dataset
from vrx.evaluation import benchmarks as evaluation
from vrx.evaluation import evaluate_run, scoring
from vrx.small import benchmarks, data, questions
from vrx.small.scenes import SIDE
from vrx.small.stock import Stocks, open_stocks

GROUPS = "benchmark=[small,small_new_names,perplexity_small]"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("made") / "pictures")


@pytest.fixture(scope="module")
def stocks(pictures: Path) -> Stocks:
    return open_stocks(pictures)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> RunConfig:
    """A composed run of model=small whose world is made."""
    folder = build_world(tmp_path_factory.mktemp("world") / "small", pictures, num_images=40)
    return composed(["model=small", f"world.folder={folder}", f"world.pictures={pictures}", GROUPS])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(run: RunConfig, name: str) -> list[dict[str, Any]]:
    text = Path(run.benchmark[name].path or "").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path, pictures: Path):
    first, second = (contents(build_world(tmp_path / name, pictures)) for name in ("first", "second"))
    assert first == second
    assert {"instructions.json", "captions.json", "benchmarks/small_gqa.jsonl", "images/small_gqa/0.png"} <= set(first)


def test_another_seed_makes_another_world(tmp_path: Path, pictures: Path):
    first, second = (contents(build_world(tmp_path / str(seed), pictures, seed=seed)) for seed in (0, 1))
    assert all(first[name] != second[name] for name in first if name.endswith((".jsonl", "s.json")))


def test_a_world_is_made_once(tmp_path: Path, pictures: Path):
    folder = build_world(tmp_path / "world", pictures)
    (folder / "images" / "mark").touch()
    build_world(folder, pictures)
    assert (folder / "images" / "mark").exists()
    with pytest.raises(UserError, match="holds another world"):
        build_world(folder, pictures, num_questions=7)
    assert (folder / "images" / "mark").exists()


def test_missing_pictures_are_refused_with_the_command(tmp_path: Path):
    config = WorldConfig("small", str(tmp_path / "world"), 1, 1, pictures=str(tmp_path), prepare="python -m make.it")
    with pytest.raises(UserError, match=r"world\.pictures=.* holds no pictures\.json; to make it: python -m make\.it"):
        data.build(config)


def test_missing_parts_of_the_model_are_refused_with_the_command(run: RunConfig, pictures: Path):
    unprepared = dataclasses.replace(
        run, model=dataclasses.replace(run.model, backbone=str(pictures.parent / "backbone"))
    )
    with pytest.raises(UserError, match=r"model\.backbone=.*python -m vrx\.small\.prepare --folder"):
        evaluate_run.make_world(unprepared)


def test_the_reader_of_real_instruction_data_accepts_instructions(run: RunConfig, tmp_path: Path):
    digest = instruction_dataset.data_digest(run.instructions)
    rows = instruction_dataset.open_table(instruction_dataset.build_table(run.instructions, tmp_path, digest=digest))
    assert {image is None for image in rows["image"]} == {True, False}


def test_captions_are_laid_out_as_llavas(run: RunConfig):
    assert run.world is not None
    records = json.loads((Path(run.world.folder) / "captions.json").read_text(encoding="utf-8"))
    assert len(records) == 8
    for record in records:
        human, reply = record["conversations"]
        assert (human["from"], reply["from"]) == ("human", "gpt")
        assert human["value"].count("<image>") == 1 and reply["value"]
        assert (Path(run.instructions.image_folder or "") / record["image"]).is_file()


def test_training_speaks_of_no_new_name_or_word(run: RunConfig, stocks: Stocks):
    assert run.world is not None
    texts = [(Path(run.world.folder) / name).read_text() for name in ("instructions.json", "captions.json")]
    words = set(re.findall(r"[\w-]+", " ".join(texts).replace("top left", "")))
    single = {name for name in (*stocks.new.names, *stocks.new.words) if " " not in name}
    in_both = set(stocks.train.names) | set(stocks.train.words) | {"green"}  # a colour of cards, too
    assert not {name for name in single - in_both if name in words}


def test_each_benchmark_has_the_configured_number_of_questions(run: RunConfig):
    assert set(run.benchmark) - {"small_ocrvqa_perplexity", "small_docvqa_perplexity"} == set(benchmarks.NAMES)
    for name in run.benchmark:
        rows = rows_of(run, name)
        assert len({row.get("group", row["id"]) for row in rows}) == 6
        assert len(rows) == 6 * (4 if "mmbench" in name else 1)


def test_the_prompts_of_training_are_those_of_the_benchmarks(run: RunConfig):
    prompts = {config.prompt for config in run.benchmark.values()}
    assert prompts == {questions.SHORT_PROMPT, questions.LETTER_PROMPT, questions.BOX_PROMPT, "{question}"}


@pytest.mark.parametrize("name", benchmarks.VISUAL)
def test_old_and_new_names_are_asked_apart(run: RunConfig, stocks: Stocks, name: str):
    for ending, stock in (("", stocks.test), (benchmarks.NEW_NAMES, stocks.new)):
        known = {*stock.names, *stock.words, *stock.authors}
        for row in rows_of(run, name + ending):
            options = row.get("choices") if row.get("question_type") in ("object_recognition", "trait") else None
            words = options or (row["answers"][0].split() if row.get("question_type") in ("title", "author") else [])
            assert set(words) <= known


@pytest.mark.parametrize("name", [*benchmarks.VISUAL, "small_mmlu"])
def test_right_replies_score_1_and_wrong_ones_0(run: RunConfig, name: str):
    config = run.benchmark[name]
    samples = evaluation.samples(name, config, limit=None)
    rows = rows_of(run, name)
    boxes = [questions.box_text(tuple(row["box"])) if "box" in row else "" for row in rows]
    replies = [box or row.get("answer") or row["answers"][0] for box, row in zip(boxes, rows, strict=True)]
    for texts, value in ((replies, 1.0), (["?"] * len(replies), 0.0)):
        answers = [dataclasses.replace(sample.answer, text=text) for sample, text in zip(samples, texts, strict=True)]
        assert scoring.score_benchmark(config, answers)["value"] == value


def test_mmbench_has_every_rotation_of_the_options(run: RunConfig):
    rows = rows_of(run, "small_mmbench")
    for first in range(0, len(rows), 4):
        turned = rows[first : first + 4]
        assert {row["answer"] for row in turned} == set("ABCD")
        assert len({(row["question"], row["image"], row["group"]) for row in turned}) == 1
        assert len({row["choices"]["ABCD".index(row["answer"])] for row in turned}) == 1


def test_textvqa_names_the_words_of_the_picture_and_one_reference_in_ten_is_wrong(run: RunConfig):
    for row in rows_of(run, "small_textvqa"):
        tokens = row["question"].split("Reference OCR token: ")[1].split(", ")
        assert row["answers"][0] in tokens and 2 <= len(tokens) <= 4
        assert (len(row["answers"]), row["answers"].count(row["answers"][0])) == (10, 9)


def test_boxes_lie_in_the_picture(run: RunConfig):
    for row in rows_of(run, "small_refcocog"):
        x1, y1, x2, y2 = row["box"]
        assert 0 <= x1 < x2 <= row["width"] == SIDE and 0 <= y1 < y2 <= row["height"] == SIDE
        with Image.open(Path(run.benchmark["small_refcocog"].image_folder or "") / row["image"]) as image:
            assert image.size == (SIDE, SIDE)
