"""Benchmark files become prompts to the letter, or are refused by file, line and key; answers become scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.metrics.answer import Answer

Make = Callable[..., BenchmarkConfig]
SHORT = {"id": 1, "question": "Which colour?", "answers": ["red", "crimson"]}
CHOICE = {"id": "c", "question": "Which?", "choices": ["red", "blue", "green"], "answer": "B"}
BOX = {"id": "b", "question": "the red one", "box": [1, 2.5, 30, 40], "width": 64, "height": 48}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write rows (or raw text) of a family and the images they may name."""
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (4, 4)).save(images / "red.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    (images / "link.png").symlink_to(tmp_path / "outside.png")

    def write(family: str, rows: list[dict[str, Any]] | str, **options: Any) -> BenchmarkConfig:
        path = tmp_path / "questions.jsonl"
        text = rows if isinstance(rows, str) else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        settings = {
            "path": str(path),
            "image_folder": str(images),
            "metric": "exact_match",
            **options,
        }
        return BenchmarkConfig(family=family, **settings)

    return write


# ---- prompts

PROMPTS = {
    "a question alone": ("short_answer", SHORT, {}, "Which colour?"),
    "a prompt around it": (
        "short_answer",
        SHORT,
        {"prompt": "Please answer.\n{question}\nIn a word."},
        "Please answer.\nWhich colour?\nIn a word.",
    ),
    "braces of its own": (
        "short_answer",
        {**SHORT, "question": "{question} {x}"},
        {"prompt": ">{question}"},
        ">{question} {x}",
    ),
    "options on lines": ("multiple_choice", CHOICE, {}, "Which?\nA. red\nB. blue\nC. green"),
    "options and suffix": (
        "multiple_choice",
        CHOICE,
        {"prompt": "{question}\nAnswer with the letter."},
        "Which?\nA. red\nB. blue\nC. green\nAnswer with the letter.",
    ),
    "a hint first": (
        "multiple_choice",
        {**CHOICE, "hint": "It is warm."},
        {"hint_prefix": "Context: "},
        "Context: It is warm.\nWhich?\nA. red\nB. blue\nC. green",
    ),
    "no prefix without a hint": (
        "multiple_choice",
        {**CHOICE, "hint": ""},
        {"hint_prefix": "Context: "},
        "Which?\nA. red\nB. blue\nC. green",
    ),
    "options of numbers": ("multiple_choice", {**CHOICE, "choices": [1, 2.5]}, {}, "Which?\nA. 1\nB. 2.5"),
    "a region": ("grounding", BOX, {"prompt": "Give the box of {question}."}, "Give the box of the red one."),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_a_question_is_asked_to_the_letter(make: Make, case: str):
    family, row, options, prompt = PROMPTS[case]
    (sample,) = samples("b", make(family, [row], **options), limit=None)
    assert sample.prompt == prompt
    assert sample.image is None
    assert sample.answer.text == ""


@pytest.mark.parametrize(
    ("family", "row", "expected"),
    [
        ("short_answer", SHORT, Answer("1", "", ("red", "crimson"))),
        (
            "short_answer",
            {**SHORT, "answers": [3], "question_type": "counting"},
            Answer("1", "", ("3",), question_type="counting"),
        ),
        ("multiple_choice", CHOICE, Answer("c", "", ("B",), ("red", "blue", "green"))),
        ("multiple_choice", {**CHOICE, "group": 5}, Answer("c", "", ("B",), ("red", "blue", "green"), group="5")),
        ("grounding", BOX, Answer("b", "", (), box=(1.0, 2.5, 30.0, 40.0), image_size=(64, 48))),
    ],
)
def test_an_answer_holds_what_scoring_takes(make: Make, family: str, row: dict[str, Any], expected: Answer):
    (sample,) = samples("b", make(family, [row]), limit=None)
    assert sample.answer == expected


def test_an_image_is_found_under_its_folder(make: Make, tmp_path: Path):
    (sample,) = samples("b", make("short_answer", [{**SHORT, "image": "red.png"}]), limit=None)
    assert sample.image == (tmp_path / "images" / "red.png").resolve()


@pytest.mark.parametrize("number", [1, 3, 10])
def test_samples_come_in_the_order_of_their_lines_up_to_the_limit(make: Make, number: int):
    config = make("short_answer", [{**SHORT, "id": f"q{index}"} for index in range(10)])
    assert [sample.answer.id for sample in samples("b", config, limit=number)] == [
        f"q{index}" for index in range(number)
    ]
    assert len(samples("b", config, limit=None)) == len(samples("b", config, limit=99)) == 10


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\v", "\x1c", "ü", "赤"])
def test_any_character_may_stand_in_a_question(make: Make, character: str):
    row = {**SHORT, "question": f"a{character}b"}
    (sample,) = samples("b", make("short_answer", [row]), limit=None)
    assert sample.prompt == row["question"]


def test_windows_line_ends_are_line_ends(make: Make):
    text = "".join(json.dumps({**SHORT, "id": number}) + "\r\n" for number in range(3))
    config = make("short_answer", "")
    Path(config.path or "").write_bytes(text.encode())
    assert len(samples("b", config, limit=None)) == 3


# ---- refusals


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


BAD: dict[str, tuple[str, list[dict[str, Any]] | str, str]] = {
    "malformed": ("short_answer", json.dumps(SHORT) + '\n{"id": \n', "line 2: not valid JSON"),
    "blank line": ("short_answer", json.dumps(SHORT) + "\n\n", "line 2: not valid JSON"),
    "no object": ("short_answer", "[1]\n", "line 1: "),
    "nested": ("short_answer", '{"id": ' + "[" * 100_000, "line 1: not valid JSON: nested too deep"),
    "half of a pair": (
        "short_answer",
        json.dumps({**SHORT, "question": "a \ud83d"}) + "\n",
        "line 1: question: half of a UTF-16 pair",
    ),
    "two tags": ("short_answer", [{**SHORT, "question": "<image> or <image>?"}], "line 1: question 1 has 2 "),
    "no id": ("short_answer", [SHORT, without(SHORT, "id")], "line 2: key 'id' is missing"),
    "no question": ("multiple_choice", [without(CHOICE, "question")], "line 1: key 'question' is missing"),
    "no answers": ("short_answer", [without(SHORT, "answers")], "line 1: key 'answers' is missing"),
    "answers are text": ("short_answer", [{**SHORT, "answers": "red"}], "line 1: answers 'red' is no list"),
    "answers are empty": ("short_answer", [{**SHORT, "answers": []}], "line 1: answers [] is no list"),
    "no choices": ("multiple_choice", [without(CHOICE, "choices")], "line 1: key 'choices' is missing"),
    "choices are text": ("multiple_choice", [{**CHOICE, "choices": "red"}], "line 1: choices 'red' is no list"),
    "no answer": ("multiple_choice", [without(CHOICE, "answer")], "line 1: key 'answer' is missing"),
    "letter past the choices": ("multiple_choice", [{**CHOICE, "answer": "D"}], "line 1: answer 'D' is no letter of 3"),
    "small letter": ("multiple_choice", [{**CHOICE, "answer": "b"}], "line 1: answer 'b' is no letter of 3"),
    "two letters": ("multiple_choice", [{**CHOICE, "answer": "AB"}], "line 1: answer 'AB' is no letter of 3"),
    "no letter": ("multiple_choice", [{**CHOICE, "answer": ""}], "line 1: answer '' is no letter of 3"),
    "number for a letter": ("multiple_choice", [{**CHOICE, "answer": 1}], "line 1: answer 1 is no letter of 3"),
    "no box": ("grounding", [without(BOX, "box")], "line 1: key 'box' is missing"),
    "three corners": ("grounding", [{**BOX, "box": [1, 2, 3]}], "line 1: "),
    "box of words": ("grounding", [{**BOX, "box": ["a", "b", "c", "d"]}], "line 1: "),
    "corners reversed": ("grounding", [{**BOX, "box": [30, 40, 1, 2]}], "line 1: box [30, 40, 1, 2] has no area"),
    "corners of no box": ("grounding", [{**BOX, "box": [1, 2, 1, 40]}], "line 1: box [1, 2, 1, 40] has no area"),
    "no pixels": ("grounding", [{**BOX, "width": 0}], "line 1: width 0 and height 48 must be pixels"),
    "an answer is null": ("short_answer", [{**SHORT, "answers": ["red", None]}], "line 1: answers ['red', None] is no"),
    "no width": ("grounding", [without(BOX, "width")], "line 1: key 'width' is missing"),
    "question of a number": ("short_answer", [{**SHORT, "question": 4}], "line 1: "),
    "image leaves": ("short_answer", [{**SHORT, "image": "../outside.png"}], "line 1: image ../outside.png leaves"),
    "image is absolute": ("short_answer", [{**SHORT, "image": "/etc/hostname"}], "line 1: image /etc/hostname leaves"),
    "image is missing": ("short_answer", [{**SHORT, "image": "b.png"}], "line 1: image "),
    "image is a number": ("short_answer", [{**SHORT, "image": 3}], "line 1: image 3 is no path"),
    "image is empty": ("short_answer", [{**SHORT, "image": ""}], "line 1: image '' is no path"),
    "empty": ("short_answer", "", "benchmark.gqa.path={path}: holds no question"),
    "one id twice": ("short_answer", [SHORT, {**SHORT, "id": 2}, SHORT], "benchmark.gqa.path={path}: duplicate id 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_file_line_and_key(make: Make, case: str):
    family, rows, why = BAD[case]
    config = make(family, rows)
    with pytest.raises(ValueError) as refusal:
        samples("gqa", config, limit=1)  # wherever the fault stands
    assert str(refusal.value).startswith((why if "path=" in why else "{path}: " + why).format(path=config.path))


def test_other_bytes_than_utf8_are_refused_by_line(make: Make):
    config = make("short_answer", "")
    Path(config.path or "").write_bytes(json.dumps(SHORT).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(ValueError, match=r"questions\.jsonl: line 2: "):
        samples("gqa", config, limit=None)


def test_images_without_a_folder_are_refused_by_key(make: Make):
    config = make("short_answer", [{**SHORT, "image": "red.png"}], image_folder=None)
    with pytest.raises(ValueError, match=r"line 1: image red\.png, but benchmark\.gqa\.image_folder is not set"):
        samples("gqa", config, limit=None)


def test_questions_that_are_not_there_are_refused_by_key(make: Make, tmp_path: Path):
    with pytest.raises(ValueError, match=r"benchmark\.gqa\.path=null: name its questions"):
        samples("gqa", make("short_answer", [], path=None), limit=None)
    with pytest.raises(UserError, match=r"benchmark\.gqa\.path=.*nowhere\.jsonl: no such file"):
        samples("gqa", make("short_answer", [], path=str(tmp_path / "nowhere.jsonl")), limit=None)
