"""The benchmarks of the small world: rows of question files, as the families of vrx/evaluation read them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from vrx.small import knowledge, questions, scenes
from vrx.small.drawing import draw
from vrx.small.questions import Question
from vrx.small.scenes import SIDE, Scene
from vrx.small.stock import Stock, Stocks

Row = dict[str, Any]  # of a question file, see vrx/evaluation/question_rows.py
NEW_NAMES = "_new_names"  # ends the name of a benchmark whose things and words are not in the training data


class RowStart(TypedDict):
    """The keys that the rows of every benchmark begin with; `group` is that of a rotated question."""

    id: str
    image: NotRequired[str]
    group: NotRequired[str]


@dataclass(frozen=True)
class Benchmark:
    """Makers of questions in turn about scenes of one sort, and how a question becomes rows."""

    makers: tuple[questions.Maker, ...]
    sample: Callable[[random.Random, Stock], Scene]
    rows: Callable[[RowStart, Question], list[Row]]


def short_rows(row: RowStart, question: Question) -> list[Row]:
    """A question with one accepted answer."""
    text = "\n".join([question.text, *([question.context] if question.context else [])])
    return [{**row, "question": text, "answers": [question.answer], "question_type": question.kind}]


def ten_rows(row: RowStart, question: Question) -> list[Row]:
    """Ten references of which one is wrong, as in TextVQA."""
    return [{**short_rows(row, question)[0], "answers": [question.answer] * 9 + ["none"]}]


def box_rows(row: RowStart, question: Question) -> list[Row]:
    """A description of a region and its box in pixels."""
    assert question.box is not None
    return [{**row, "question": question.text, "box": list(question.box), "width": SIDE, "height": SIDE}]


def choice_rows(row: RowStart, question: Question) -> list[Row]:
    """A question with options."""
    return [
        {
            **row,
            "question": question.text,
            "choices": list(question.choices),
            "answer": questions.reply(question),
            "question_type": question.kind,
        }
    ]


def rotated_rows(row: RowStart, question: Question) -> list[Row]:
    """The question with every rotation of its options, as in MMBench's circular evaluation."""
    rows: list[Row] = []
    for turn in range(len(question.choices)):
        turned = replace(question, choices=question.choices[turn:] + question.choices[:turn])
        rows += choice_rows({**row, "id": f"{row['id']}.{turn}", "group": row["id"]}, turned)
    return rows


VISUAL = {
    "small_ocrvqa": Benchmark((questions.cover,), scenes.sample_cover, short_rows),
    "small_docvqa": Benchmark((questions.line,), scenes.sample_page, short_rows),
    "small_refcocog": Benchmark((questions.region,), scenes.sample_things, box_rows),
    "small_tdiuc": Benchmark(questions.TYPED, scenes.sample_things, short_rows),
    "small_mmbench": Benchmark((questions.choice,), scenes.sample_things, rotated_rows),
    "small_gqa": Benchmark((questions.relation,), scenes.sample_things, short_rows),
    "small_scienceqa": Benchmark((questions.science,), scenes.sample_things, choice_rows),
    "small_textvqa": Benchmark((questions.word,), scenes.sample_labelled, ten_rows),
}
TEXT = ("small_mmlu", "small_text")
NAMES = (*VISUAL, *(name + NEW_NAMES for name in VISUAL), *TEXT)


def make_rows(name: str, stocks: Stocks, *, seed: int, number: int, images: Path) -> list[Row]:
    """The rows of a benchmark with `number` questions; draws their pictures below `images`."""
    rng = random.Random(f"small world {seed} {name}")
    if name == "small_mmlu":
        return [row for index in range(number) for row in choice_rows({"id": str(index)}, text_question(rng, stocks))]
    if name == "small_text":
        names = (*stocks.test.names, *stocks.new.names)
        return [{"id": str(index), "text": knowledge.paragraph(rng, names)} for index in range(number)]
    benchmark = VISUAL[name.removesuffix(NEW_NAMES)]
    stock = stocks.new if name.endswith(NEW_NAMES) else stocks.test
    rows: list[Row] = []
    for index in range(number):
        maker, question, scene = benchmark.makers[index % len(benchmark.makers)], None, Scene()
        while question is None:
            scene = benchmark.sample(rng, stock)
            question = maker(scene, rng, stock)
        image = f"{name}/{index}.png"
        save(scene, stock, images / image, rng)
        rows += benchmark.rows({"id": str(index), "image": image}, question)
    return rows


def text_question(rng: random.Random, stocks: Stocks, names: Sequence[str] = ()) -> Question:
    """A four-way choice that needs no picture: a trait or a category, of new names unless `names` are given."""
    make = rng.choice((knowledge.trait_choice, knowledge.category_choice))
    text, answer, choices = make(rng, names or stocks.new.names)
    return Question(text, answer, "knowledge", choices)


def save(scene: Scene, stock: Stock, path: Path, rng: random.Random) -> None:
    """Draw a scene into a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(scene, stock, seed=rng.getrandbits(32)).save(path, compress_level=1)
