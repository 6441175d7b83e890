"""The embedded world contradicts itself nowhere: its pictures show its scenes, and every reply can be read off them."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vrx.config.schema import RunConfig, WorldConfig
from vrx.data import instruction_dataset
from vrx.evaluation import benchmarks, scoring
from vrx.tiny import data, questions, scenes
from vrx.tiny.scenes import CELL, COLOURS, GRID, MASKS, SIZE, Scene, Thing

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure
seeds = st.integers(0, 2**32 - 1)
CELLS = [f"{column}{row}" for row in range(1, GRID + 1) for column in "abc"[:GRID]]
WARM, SHAPES = {"red", "orange", "yellow"}, {"circle", "square", "triangle", "cross"}
STEPS = {"left of": -1, "right of": 1, "above": -GRID, "below": GRID}


# ---- a second reader of the world, which shares nothing with the makers of its questions


def see(picture: Image.Image) -> Scene:
    """The scene a picture shows, told from its pixels."""
    pixels = np.asarray(picture, dtype=np.float32)
    found: list[Thing | None] = []
    for cell in range(GRID * GRID):
        top, left = (index * CELL for index in divmod(cell, GRID))
        window = pixels[top : top + CELL, left : left + CELL]
        covered = abs(window - np.median(pixels, axis=(0, 1))).max(axis=2) > 45
        if covered.sum() < 20:
            found.append(None)
            continue
        kind = min(MASKS, key=lambda kind: (MASKS[kind] != covered).sum())
        colour = window[MASKS[kind]].mean(axis=0)
        hues = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in COLOURS.items()}
        found.append(Thing(max(hues, key=lambda name: hues[name] @ colour), kind))
    return tuple(found)


def hear(told: str) -> Scene:
    """The scene that a text tells, a word for each cell: ` none b1-red-circle …`."""
    blank, *words = told.split(" ")
    assert blank == "" and len(words) == len(CELLS)
    parts = [word.split("-") for word in words]
    assert all(part == ["none"] or part[0] == cell for cell, part in zip(CELLS, parts, strict=True))
    return tuple(None if part == ["none"] else Thing(*part[1:]) for part in parts)


def only(cells: list[int]) -> int:
    (cell,) = cells  # a question that fits several things has no answer
    return cell


def called(scene: Scene, name: str) -> int:
    """The one cell whose thing is called so: `red-circle`, `circle`."""
    words = name.split("-")
    return only(
        [cell for cell, thing in enumerate(scene) if thing and [thing.colour, thing.kind][-len(words) :] == words]
    )


def letters(things: tuple[Thing | None, ...]) -> list[Thing]:
    return [thing for thing in things if thing and thing.kind not in SHAPES]


def kind_at(scene: Scene, cell: int) -> str:
    return scene[cell].kind if scene[cell] else "none"


def which(scene: Scene, cell: int, options: set[str]) -> str:
    if options == {"warm", "cold"}:
        return "warm" if scene[cell].colour in WARM else "cold"
    assert options == {"letter", "shape"}
    return "shape" if scene[cell].kind in SHAPES else "letter"


def beside(scene: Scene, words: str, name: str) -> str:
    cell = called(scene, name)
    other = cell + STEPS[words]
    assert 0 <= other < GRID * GRID and (words in ("above", "below") or other // GRID == cell // GRID)
    return kind_at(scene, other)


def box(cell: int) -> str:
    row, column = divmod(cell, GRID)
    return "[" + ", ".join(f"{edge / GRID:.2f}" for edge in (column, row, column + 1, row + 1)) + "]"


def read(scene: Scene, line: str, place: str) -> str:
    place = CELLS.index(f"a{place}" if line == "row" else f"{place}1")
    things = scene[place : place + GRID] if line == "row" else scene[place::GRID]
    return " ".join(thing.kind for thing in letters(things))


CELL_NAME, THING = r"([a-c][1-3])", r"(\w+(?:-\w+)?)"
RULES: dict[str, Callable[..., str]] = {
    rf"What is at {CELL_NAME}\?": lambda scene, name: kind_at(scene, CELLS.index(name)),
    rf"What color is at {CELL_NAME}\?": lambda scene, name: scene[CELLS.index(name)].colour,
    rf"What color is the {THING}\?": lambda scene, name: scene[called(scene, name)].colour,
    r"How many are (circle|square|triangle|crosse?)s\?": lambda scene, kind: str(
        sum(thing is not None and thing.kind == kind.replace("crosse", "cross") for thing in scene)
    ),
    rf"How many are ({'|'.join(COLOURS)})\?": lambda scene, colour: str(
        sum(thing is not None and thing.colour == colour for thing in scene)
    ),
    rf"Is there a {THING}\?": lambda scene, name: "yes" if name in map(str, scene) else "no",
    rf"Where is the {THING}\?": lambda scene, name: CELLS[called(scene, name)],
    rf"Which letter is at {CELL_NAME}\?": lambda scene, name: letters((scene[CELLS.index(name)],))[0].kind,
    r"Which letter is (\w+)\?": lambda scene, colour: (
        letters(scene)[only([number for number, thing in enumerate(letters(scene)) if thing.colour == colour])].kind
    ),
    r"Read (row|column) (\w)\.": read,
    rf"What is (left of|right of|above|below) the {THING}\?": beside,
    rf"Give the box of {CELL_NAME}\.": lambda scene, name: box(CELLS.index(name)),
    rf"Give the box of the {THING}\.": lambda scene, name: box(called(scene, name)),
    r"Which option is (\w+)\?": lambda scene, word: word,
    r"Count the shapes\.": lambda scene: ", ".join(
        f"{kind} {[thing.kind for thing in scene if thing].count(kind)}"
        for kind in ("circle", "square", "triangle", "cross")
    ),
    r"List what there is by (kind|name)\.": lambda scene, order: ", ".join(
        sorted(
            f"{thing.kind} {name} {thing.colour}" if order == "kind" else f"{thing} {name}"
            for name, thing in zip(CELLS, scene, strict=True)
            if thing
        )
    ),
    r"Describe the scene\.": lambda scene: ", ".join(
        f"{name} {thing.colour} {thing.kind}" for name, thing in zip(CELLS, scene, strict=True) if thing
    ),
}


def solve(text: str, scene: Scene, options: tuple[str, ...] = ()) -> str:
    """The answer to a question, by its words alone; of a choice the wording of the right option."""
    if asked := re.fullmatch(rf"Which is at {CELL_NAME}\?", text):
        return which(scene, CELLS.index(asked[1]), set(options))
    (answer,) = {rule(scene, *asked.groups()) for words, rule in RULES.items() if (asked := re.fullmatch(words, text))}
    return answer


def reply(turn: str, scene: Scene) -> str:
    """The right reply to a user turn: options are on lettered lines, a context stands before or after."""
    lines = [line for line in turn.split("\n") if not line.startswith(("Context: ", "Reference OCR token: "))]
    if lines[-1] != "Answer with the letter.":
        (text,) = lines
        return solve(text, scene)
    options = tuple(line[3:] for line in lines[1:-1])
    assert [line[:3] for line in lines[1:-1]] == [f"{letter}. " for letter in "ABCD"[: len(options)]]
    assert len(set(options)) == len(options)
    return "ABCD"[options.index(solve(lines[0], scene, options))]


# ---- scenes


@unhurried
@given(seed=seeds)
def test_a_scene_has_things_no_two_of_them_alike(seed: int):
    things = [thing for thing in scenes.sample(random.Random(seed)) if thing]
    assert 3 <= len(things) == len(set(things)) <= 5


@unhurried
@given(seed=seeds, noise=seeds)
def test_a_picture_shows_its_scene(seed: int, noise: int):
    scene = scenes.sample(random.Random(seed))
    picture = scenes.draw(scene, seed=noise)
    assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")
    assert see(picture) == scene


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_thing_can_be_told_in_a_picture(colour: str, kind: str):
    scene = (*[None] * 5, Thing(colour, kind), *[None] * 3)
    assert see(scenes.draw(scene, seed=0)) == scene


@unhurried
@given(seed=seeds)
def test_words_tell_the_whole_scene(seed: int):
    scene = scenes.sample(random.Random(seed))
    assert hear(scenes.describe(scene)) == scene


def test_cells_are_named_by_column_letter_and_row_number():
    assert [scenes.cell_name(cell) for cell in range(GRID * GRID)] == CELLS


# ---- questions

MAKERS = sorted({*questions.VISUAL, *questions.TEXT, questions.option}, key=lambda maker: maker.__name__)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
@unhurried
@given(seed=seeds)
def test_every_answer_is_the_one_the_scene_gives(maker: questions.Maker, seed: int):
    rng = random.Random(seed)
    scene = scenes.sample(rng)
    question = maker(scene, rng)
    if question is not None:
        assert solve(question.text, scene, question.choices) == question.answer
        assert reply(questions.prompt(question), scene) == questions.reply(question)
        assert not question.choices or question.answer in question.choices


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_no_answer_is_nearly_always_right(maker: questions.Maker):
    rng = random.Random(0)
    asked = [maker(scenes.sample(rng), rng) for _ in range(400)]
    replies = [questions.reply(question) for question in asked if question]
    assert len(replies) > 200
    assert max(map(replies.count, set(replies))) < 0.75 * len(replies)


# ---- the data on disk


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def built(folder: Path, **options: Any) -> Path:
    given = {"num_images": 6, "num_questions": 2, "seed": 0, **options}
    data.build(WorldConfig(name="tiny", folder=str(folder), **given))
    return folder


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path):
    one, other = contents(built(tmp_path / "one")), contents(built(tmp_path / "other"))
    assert one == other
    assert {"instructions.json", "world.json", "benchmarks/tiny_gqa.jsonl", "images/tiny_gqa/0.png"} <= set(one)


def test_another_seed_makes_another_world(tmp_path: Path):
    one, other = contents(built(tmp_path / "one")), contents(built(tmp_path / "other", seed=1))
    assert all(one[name] != other[name] for name in one if name.endswith((".jsonl", "instructions.json")))


def test_a_world_is_made_once(tmp_path: Path):
    folder = built(tmp_path / "world")
    (folder / "images" / "mark").touch()
    built(folder)
    assert (folder / "images" / "mark").exists()


@pytest.mark.parametrize("options", [{"seed": 1}, {"num_images": 7}, {"num_questions": 3}], ids=str)
def test_a_world_of_other_numbers_takes_its_place(tmp_path: Path, options: dict[str, int]):
    folder = built(tmp_path / "world")
    (folder / "images" / "mark").touch()
    assert contents(built(folder, **options)) == contents(built(tmp_path / "fresh", **options))


def test_a_half_made_world_is_made_anew(tmp_path: Path):
    (tmp_path / ".world.partial").mkdir()
    (tmp_path / ".world.partial" / "left.over").touch()
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "instructions.json").write_text("[")
    assert contents(built(tmp_path / "world")) == contents(built(tmp_path / "fresh"))
    assert not (tmp_path / ".world.partial").exists()


@pytest.fixture
def run(make_run: Callable[..., RunConfig]) -> RunConfig:
    return make_run()


def test_instruction_data_passes_the_checks_of_any_instruction_data(run: RunConfig, tmp_path: Path):
    digest = instruction_dataset.data_digest(run.instructions)
    rows = instruction_dataset.open_table(instruction_dataset.table(run.instructions, tmp_path, digest=digest))
    assert run.world is not None
    assert len(rows) == run.world.num_images
    assert {image is None for image in rows["image"]} == {True, False}  # most look at a picture, some only read


def test_every_reply_of_a_conversation_is_the_one_its_picture_or_its_text_gives(run: RunConfig):
    folder = Path(run.instructions.image_folder or "")
    for record in json.loads(Path(run.instructions.path or "").read_text(encoding="utf-8")):
        turns = [turn["value"] for turn in record["conversations"]]
        told, _, turns[0] = turns[0].partition("\n")
        if "image" in record:
            assert told == "<image>"
            scene = see(Image.open(folder / record["image"]))
        else:
            scene = hear(told)
        assert turns[1::2] == [reply(turn, scene) for turn in turns[::2]]


def rows_of(run: RunConfig, name: str) -> list[dict[str, Any]]:
    text = Path(run.benchmark[name].path or "").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def seen(run: RunConfig, name: str, row: dict[str, Any]) -> Scene:
    return see(Image.open(Path(run.benchmark[name].image_folder or "") / row["image"]))


def test_each_benchmark_asks_as_many_questions_as_it_is_told(run: RunConfig):
    assert run.world is not None
    assert set(run.benchmark) == set(data.BENCHMARKS)
    for name in run.benchmark:
        rows = rows_of(run, name)
        assert len({row.get("group", row["id"]) for row in rows}) == run.world.num_questions
        assert len(rows) == run.world.num_questions * (4 if name == "tiny_mmbench" else 1)


SHORT = ["tiny_ocrvqa", "tiny_docvqa", "tiny_tdiuc", "tiny_gqa", "tiny_textvqa"]


@pytest.mark.parametrize("name", SHORT)
def test_the_reference_of_a_question_is_what_its_picture_gives(run: RunConfig, name: str):
    for row in rows_of(run, name):
        right = reply(row["question"], seen(run, name, row))
        assert row["answers"] == ([right] * 9 + ["none"] if name == "tiny_textvqa" else [right])


@pytest.mark.parametrize("name", ["tiny_mmbench", "tiny_scienceqa", "tiny_mmlu"])
def test_the_letter_of_a_choice_is_that_of_the_right_option(run: RunConfig, name: str):
    for row in rows_of(run, name):
        told, _, text = row["question"].rpartition("\n")
        scene = hear(told) if told else seen(run, name, row)
        assert row["choices"]["ABCD".index(row["answer"])] == solve(text, scene, tuple(row["choices"]))


def test_a_question_comes_with_every_rotation_of_its_options(run: RunConfig):
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(run, "tiny_mmbench"):
        groups[row["group"]].append(row)
    for rows in groups.values():
        first = rows[0]["choices"]
        assert [row["choices"] for row in rows] == [first[turn:] + first[:turn] for turn in range(len(first))]
        assert {row["answer"] for row in rows} == set("ABCD")
        assert len({(row["question"], seen(run, "tiny_mmbench", row)) for row in rows}) == 1


def test_a_box_is_that_of_the_cell_of_its_thing(run: RunConfig):
    for row in rows_of(run, "tiny_refcocog"):
        below, right = divmod(called(seen(run, "tiny_refcocog", row), row["question"]), GRID)
        assert row["box"] == [right * CELL, below * CELL, (right + 1) * CELL, (below + 1) * CELL]
        assert (row["width"], row["height"]) == (SIZE, SIZE)


@pytest.mark.parametrize("name", data.BENCHMARKS)
def test_the_right_replies_score_full_marks_and_silence_does_not(run: RunConfig, name: str):
    config = run.benchmark[name]
    asked = benchmarks.samples(name, config, limit=None)
    replies = []
    for sample, row in zip(asked, rows_of(run, name), strict=True):
        told, _, _ = row["question"].rpartition("\n") if name == "tiny_mmlu" else ("", "", "")
        scene = hear(told) if told else seen(run, name, row)
        replies.append(reply(sample.prompt.removeprefix(f"{told}\n"), scene))
    for texts, value in ((replies, 1.0), (["?"] * len(replies), 0.0)):
        answers = [dataclasses.replace(sample.answer, text=text) for sample, text in zip(asked, texts, strict=True)]
        assert scoring.score_benchmark(config, answers)["value"] == value
