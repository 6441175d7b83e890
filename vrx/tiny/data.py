"""The embedded world on disk: instruction data and captions in LLaVA's JSON format, benchmarks as JSON Lines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from tqdm import tqdm

from vrx.config.schema import WorldConfig
from vrx.data.world_folder import DESCRIPTION, is_made
from vrx.runs.durable import partial_folder, put_in_place
from vrx.runs.files import write_atomic, write_json
from vrx.tiny import choices, kinds, questions
from vrx.tiny.lists import description
from vrx.tiny.questions import Question
from vrx.tiny.scenes import CELL, GRID, SIZE, Scene, describe, draw, sample

TURNS = 4  # question-answer pairs of a conversation
TEXT_ONLY = 0.08  # share of conversations without an image, between LLaVA's 6 % and Bunny's 10 %
TEXT_ONLY_BENCHMARKS = ("tiny_mmlu", "tiny_text")
VERSION = 3  # of what the same settings make

Row = dict[str, object]  # of a question file, see vrx/evaluation/question_rows.py


class RowStart(TypedDict):
    """The keys that the rows of every tiny benchmark begin with; `group` is that of a rotated question."""

    id: str
    image: NotRequired[str]
    group: NotRequired[str]


def build(config: WorldConfig) -> None:
    """Make instructions, captions, images and benchmarks unless they exist; the same seed makes the same files.

    `UserError` where the folder holds another world.
    """
    folder = Path(config.folder)
    counts = {"images": config.num_images, "questions": config.num_questions}
    settings = {"version": VERSION, **counts, "seed": config.seed}
    if is_made(folder, settings):
        for name in QUESTIONS:  # a benchmark may be newer than this world
            if not _file(folder, name).is_file():
                write_atomic(_file(folder, name), _lines(name, config, folder / "images"))
        return
    partial = partial_folder(folder)
    (partial / "images").mkdir(parents=True)
    (partial / "benchmarks").mkdir()
    bar = tqdm(total=config.num_images + len(QUESTIONS), desc="making the tiny world", delay=1)
    rng = random.Random(f"world {config.seed} instructions")
    records, captions = [], []
    for number in range(config.num_images):
        record, caption = _conversation(rng, number, partial / "images")
        records.append(record)
        captions += caption
        bar.update()
    write_json(partial / "instructions.json", records)
    write_json(partial / "captions.json", captions)
    for name in QUESTIONS:
        write_atomic(_file(partial, name), _lines(name, config, partial / "images"))
        bar.update()
    bar.close()
    write_json(partial / DESCRIPTION, settings)
    put_in_place(partial, folder)


def _conversation(rng: random.Random, number: int, images: Path) -> tuple[Row, list[Row]]:
    """Several questions about one scene, which is drawn or, in a text-only conversation, described in words.

    Returns the conversation and, if the scene is drawn, its caption.
    """
    scene = sample(rng)
    text_only = rng.random() < TEXT_ONLY
    makers = kinds.TEXT if text_only else kinds.VISUAL
    turns: list[dict[str, str]] = []
    while len(turns) < 2 * TURNS:
        question = rng.choice(makers)(scene, rng)
        if question is not None:
            turns.append({"from": "human", "value": questions.prompt(question)})
            turns.append({"from": "gpt", "value": questions.reply(question)})
    record: Row = {"id": f"tiny_{number}"}
    if text_only:
        turns[0]["value"] = f"{describe(scene, rng)}\n{turns[0]['value']}"
        return {**record, "conversations": turns}, []
    image = f"train/{number}.png"
    _save(scene, images / image, rng)
    turns[0]["value"] = f"<image>\n{turns[0]['value']}"
    record["image"] = image
    caption = description(scene, rng)
    described = [{"from": "human", "value": f"<image>\n{caption.text}"}, {"from": "gpt", "value": caption.answer}]
    return {**record, "conversations": turns}, [{**record, "conversations": described}]


def _save(scene: Scene, path: Path, rng: random.Random) -> None:
    path.parent.mkdir(exist_ok=True)
    draw(scene, seed=rng.getrandbits(32)).save(path, compress_level=1)


def _file(folder: Path, name: str) -> Path:
    return folder / "benchmarks" / f"{name}.jsonl"


def _lines(name: str, config: WorldConfig, images: Path) -> str:
    rows = _benchmark(name, random.Random(f"world {config.seed} {name}"), config.num_questions, images)
    return "".join(json.dumps(row) + "\n" for row in rows)


def _benchmark(name: str, rng: random.Random, number: int, images: Path) -> list[Row]:
    makers, rows_of = QUESTIONS[name]
    rows: list[Row] = []
    for index in range(number):
        maker, scene, question = makers[index % len(makers)], sample(rng), None
        while question is None:
            scene = sample(rng)
            question = maker(scene, rng)
        row: RowStart = {"id": f"{index}"}
        if name in TEXT_ONLY_BENCHMARKS:
            if question.kind != "fact":
                text = f"{describe(scene, rng)}\n{question.text}"
                question = Question(text, question.answer, question.kind, question.choices, question.context)
        else:
            row["image"] = f"{name}/{index}.png"
            _save(scene, images / row["image"], rng)
        rows += rows_of(row, question)
    return rows


Rows = Callable[[RowStart, Question], list[Row]]


def _short(row: RowStart, question: Question) -> list[Row]:
    answers = [questions.reply(question)]
    return [{**row, "question": questions.prompt(question), "answers": answers, "question_type": question.kind}]


def _ten(row: RowStart, question: Question) -> list[Row]:
    """Ten references of which one is wrong, as in TextVQA."""
    return [{**_short(row, question)[0], "answers": [question.answer] * 9 + ["none"]}]


def _box(row: RowStart, question: Question) -> list[Row]:
    down, right = divmod(question.cell, GRID)
    corners = [right * CELL, down * CELL, (right + 1) * CELL, (down + 1) * CELL]
    thing = question.text.removeprefix("Give the box of the ").removesuffix(".")
    return [{**row, "question": thing, "box": corners, "width": SIZE, "height": SIZE}]


def _choice(row: RowStart, question: Question) -> list[Row]:
    letter = "ABCD"[question.choices.index(question.answer)]
    hint = {"hint": question.context} if question.context else {}
    choices = list(question.choices)
    return [
        {**row, **hint, "question": question.text, "choices": choices, "answer": letter, "question_type": question.kind}
    ]


def _rotations(row: RowStart, question: Question) -> list[Row]:
    """The question with every rotation of its options, as in MMBench's circular evaluation."""
    rows: list[Row] = []
    for turn in range(len(question.choices)):
        choices = question.choices[turn:] + question.choices[:turn]
        turned = Question(question.text, question.answer, question.kind, choices)
        rows += _choice({**row, "id": f"{row['id']}.{turn}", "group": row["id"]}, turned)
    return rows


BENCHMARKS: dict[str, tuple[tuple[questions.Maker, ...], Rows]] = {
    "tiny_ocrvqa": ((questions.letter_at, questions.letter_of_colour), _short),
    "tiny_docvqa": ((questions.line,), _short),
    "tiny_refcocog": ((questions.region,), _box),
    "tiny_tdiuc": (kinds.TYPED, _short),
    "tiny_mmbench": ((choices.choice,), _rotations),
    "tiny_gqa": ((questions.relation,), _short),
    "tiny_scienceqa": ((choices.science,), _choice),
    "tiny_textvqa": ((questions.ocr,), _ten),
    "tiny_mmlu": ((choices.choice, choices.fact_choice, choices.fact_choice), _choice),
}
QUESTIONS = {**BENCHMARKS, "tiny_text": (kinds.TEXT, _short)}  # tiny_text is for perplexity
