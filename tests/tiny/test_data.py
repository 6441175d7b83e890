"""The tiny world on disk: reproducible, complete, and consistent with its pictures."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.composing import composed
from support.tiny_reader import find_thing, parse, reply, see, solve

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig, WorldConfig
from vrx.data.instructions import instruction_dataset
from vrx.evaluation import benchmarks, scoring
from vrx.tiny import data
from vrx.tiny.scenes import CELL, GRID, SIZE, Scene


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def built(folder: Path, **options: Any) -> Path:
    settings = {"num_images": 6, "num_questions": 2, "seed": 0, **options}
    data.build(WorldConfig(name="tiny", folder=str(folder), **settings))
    return folder


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path):
    first, second = contents(built(tmp_path / "first")), contents(built(tmp_path / "second"))
    assert first == second
    assert {"instructions.json", "world.json", "benchmarks/tiny_gqa.jsonl", "images/tiny_gqa/0.png"} <= set(first)


def test_another_seed_makes_another_world(tmp_path: Path):
    first, second = contents(built(tmp_path / "first")), contents(built(tmp_path / "second", seed=1))
    assert all(first[name] != second[name] for name in first if name.endswith((".jsonl", "instructions.json")))


def test_a_world_is_made_once(tmp_path: Path):
    folder = built(tmp_path / "world")
    (folder / "images" / "mark").touch()
    built(folder)
    assert (folder / "images" / "mark").exists()


@pytest.mark.parametrize("options", [{"seed": 1}, {"num_images": 7}, {"num_questions": 3}], ids=str)
def test_a_world_with_other_settings_is_refused_and_stays(tmp_path: Path, options: dict[str, int]):
    folder = built(tmp_path / "world")
    before = contents(folder)
    ((key, value),) = options.items()
    with pytest.raises(UserError, match=rf"^world\.folder={folder}: holds another world \({key.removeprefix('num_')} "):
        built(folder, **options)
    assert contents(folder) == before and value != 0


def test_only_a_world_of_the_default_settings_has_the_plain_name():
    def folder(*overrides: str) -> str:
        run = composed(["model=tiny", "runtime.output_root=/root", *overrides])
        assert run.world is not None and run.instructions.path == f"{run.world.folder}/instructions.json"
        return run.world.folder

    assert folder() == folder("world.seed=0") == "/root/data/tiny"
    others = [folder("world.seed=1"), folder("world.num_images=48"), folder("world.num_questions=6")]
    assert len({"/root/data/tiny", *others}) == 4
    assert all(re.fullmatch(r"/root/data/tiny-[0-9a-f]{8}", other) for other in others)
    assert folder("world.folder=/mine", "world.seed=1") == "/mine"


def test_an_incomplete_world_is_made_again(tmp_path: Path):
    (tmp_path / ".world.partial").mkdir()
    (tmp_path / ".world.partial" / "left.over").touch()
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "instructions.json").write_text("[")
    assert contents(built(tmp_path / "world")) == contents(built(tmp_path / "fresh"))
    assert not (tmp_path / ".world.partial").exists()


@pytest.fixture
def run(make_run: Callable[..., RunConfig]) -> RunConfig:
    return make_run()


def test_the_reader_of_real_instruction_data_accepts_the_world(run: RunConfig, tmp_path: Path):
    digest = instruction_dataset.data_digest(run.instructions)
    rows = instruction_dataset.open_table(instruction_dataset.build_table(run.instructions, tmp_path, digest=digest))
    assert run.world is not None
    assert len(rows) == run.world.num_images
    assert {image is None for image in rows["image"]} == {
        True,
        False,
    }  # most conversations have an image, some only text


def test_every_reply_of_a_conversation_follows_from_its_picture_or_text(run: RunConfig):
    folder = Path(run.instructions.image_folder or "")
    for record in json.loads(Path(run.instructions.path or "").read_text(encoding="utf-8")):
        turns = [turn["value"] for turn in record["conversations"]]
        header, _, turns[0] = turns[0].partition("\n")
        if "image" in record:
            assert header == "<image>"
            scene = see(Image.open(folder / record["image"]))
        else:
            scene = parse(header)
        assert turns[1::2] == [reply(turn, scene) for turn in turns[::2]]


def rows_of(run: RunConfig, name: str) -> list[dict[str, Any]]:
    text = Path(run.benchmark[name].path or "").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def seen(run: RunConfig, name: str, row: dict[str, Any]) -> Scene:
    return see(Image.open(Path(run.benchmark[name].image_folder or "") / row["image"]))


def scene_of(run: RunConfig, name: str, row: dict[str, Any]) -> Scene:
    """The scene of a question's picture or words; an empty one for a fact."""
    if "image" in row:
        return seen(run, name, row)
    description = row["question"].rpartition("\n")[0]
    return parse(description) if description else (None,) * GRID**2


def test_each_benchmark_has_the_configured_number_of_questions(run: RunConfig):
    assert run.world is not None
    assert set(run.benchmark) == set(data.BENCHMARKS)
    for name in run.benchmark:
        rows = rows_of(run, name)
        assert len({row.get("group", row["id"]) for row in rows}) == run.world.num_questions
        assert len(rows) == run.world.num_questions * (4 if name == "tiny_mmbench" else 1)


SHORT = ["tiny_ocrvqa", "tiny_docvqa", "tiny_tdiuc", "tiny_gqa", "tiny_textvqa"]


@pytest.mark.parametrize("name", SHORT)
def test_the_reference_of_a_question_follows_from_its_picture(run: RunConfig, name: str):
    for row in rows_of(run, name):
        right = reply(row["question"], seen(run, name, row))
        assert row["answers"] == ([right] * 9 + ["none"] if name == "tiny_textvqa" else [right])


@pytest.mark.parametrize("name", ["tiny_mmbench", "tiny_scienceqa", "tiny_mmlu"])
def test_the_answer_letter_names_the_right_option(run: RunConfig, name: str):
    for row in rows_of(run, name):
        text = row["question"].rpartition("\n")[2]
        assert row["choices"]["ABCD".index(row["answer"])] == solve(text, scene_of(run, name, row))


def test_mmbench_has_every_rotation_of_the_options(run: RunConfig):
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(run, "tiny_mmbench"):
        groups[row["group"]].append(row)
    for rows in groups.values():
        first = rows[0]["choices"]
        assert [row["choices"] for row in rows] == [first[turn:] + first[:turn] for turn in range(len(first))]
        assert {row["answer"] for row in rows} == set("ABCD")
        assert len({(row["question"], seen(run, "tiny_mmbench", row)) for row in rows}) == 1


def test_a_box_covers_the_cell_of_its_thing(run: RunConfig):
    for row in rows_of(run, "tiny_refcocog"):
        below, right = divmod(find_thing(seen(run, "tiny_refcocog", row), row["question"]), GRID)
        assert row["box"] == [right * CELL, below * CELL, (right + 1) * CELL, (below + 1) * CELL]
        assert (row["width"], row["height"]) == (SIZE, SIZE)


@pytest.mark.parametrize("name", data.BENCHMARKS)
def test_right_replies_score_1_and_wrong_ones_0(run: RunConfig, name: str):
    config = run.benchmark[name]
    samples = benchmarks.samples(name, config, limit=None)
    replies = []
    for sample, row in zip(samples, rows_of(run, name), strict=True):
        description = row["question"].rpartition("\n")[0] if name == "tiny_mmlu" else ""
        replies.append(reply(sample.prompt.removeprefix(f"{description}\n"), scene_of(run, name, row)))
    for texts, value in ((replies, 1.0), (["?"] * len(replies), 0.0)):
        answers = [dataclasses.replace(sample.answer, text=text) for sample, text in zip(samples, texts, strict=True)]
        assert scoring.score_benchmark(config, answers)["value"] == value
