"""Questions of benchmarks, in the forms of the official downloads and in ours, and answers of other programs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.bad_bytes import ANY_FILE, JSON_TEXT, NO, at, cut, dumped, flipped, inserted, shuffled_value
from support.bad_data import ascii_json
from support.bad_input_runner import OTHER, REFUSED, SAME, BadInput, Scene
from support.bad_input_scenes import SMALL, link_world, replace
from support.official_files import OFFICIAL

ANY_VALUE = frozenset({REFUSED, SAME, OTHER})
REQUIRED: dict[str, dict[str, list[tuple[Any, ...]]]] = {  # what no row of an official file may lack
    "ocrvqa": {"dataset.json": [("b1", key) for key in ("questions", "answers", "imageURL", "split")]},
    "docvqa": {"val_v1.0_withQT.json": [("data", 0, key) for key in ("questionId", "question", "image", "answers")]},
    "refcocog": {
        "instances.json": [("images",), ("annotations",), *(("annotations", 0, key) for key in ("id", "bbox"))]
        + [("images", 0, key) for key in ("id", "file_name", "width", "height")]
    },
    "tdiuc": {
        "Questions/OpenEnded_mscoco_val2014_questions.json": [("questions",)]
        + [("questions", 0, key) for key in ("question_id", "image_id", "question")],
        "Annotations/mscoco_val2014_annotations.json": [("annotations",)]
        + [("annotations", 0, key) for key in ("question_id", "question_type", "answers")],
    },
    "gqa": {"testdev_balanced_questions.json": [("201", key) for key in ("question", "answer", "imageId")]},
    "scienceqa": {
        "problems.json": [("8", key) for key in ("question", "choices", "answer", "split")],
        "pid_splits.json": [("test",)],
    },
    "textvqa": {
        "TextVQA_0.5.1_val.json": [("data", 0, key) for key in ("question_id", "question", "image_id", "answers")],
        "TextVQA_Rosetta_OCR_v0.2_val.json": [("data",), ("data", 0, "image_id"), ("data", 0, "ocr_tokens")],
    },
    "bbh": {"snarks.json": [("examples",), ("examples", 0, "input"), ("examples", 0, "target")]},
}
NO_VALUES = (None, {}, {"a": 1}, [{}], [[1]], True, ...)
ROWS = {"tiny_gqa": ("question", "answers"), "tiny_mmbench": ("question", "choices", "answer")}
ROWS |= {"tiny_refcocog": ("question", "box", "width", "height")}
CELLS = ("", "x", "-1", "\0", "999999999999999999999", '"', "nan", "\t\t\t", "E")


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made_by_a_pickle",)


PICKLES = (_Code(), {"a": 1}, [1, 2], [], None, [{"split": "test"}], [{"split": [], "sentences": 3}], "x", [None])


def scene(name: str) -> Scene:
    """The answers of another program to the questions of a benchmark, in the form of its official download."""
    files, samples = OFFICIAL[name]

    def prepare(folder: Path) -> None:
        link_world(folder)
        for file, content in files.items():
            replace(folder / "data" / file, content if isinstance(content, bytes | str) else dumped(content))
        replace(folder / "answers.jsonl", _answers([answer.id for _, _, answer in samples]))

    options = (f"benchmark=[{name}]", f"benchmark.{name}.path=@/data", "score_answers.file=@/answers.jsonl")
    command = ("score-answers", *SMALL, *options, "score_answers.name=other", "runtime.output_root=@/outputs")
    if name in ("mmlu", "flickr30k"):  # whose answers are more than a text
        command = ("check", *SMALL, *options[:2], "runtime.output_root=@/outputs")
    return Scene(f"questions-{name}", command, prepare)


def own_scene(name: str) -> Scene:
    """The same with a question file of ours."""

    def prepare(folder: Path) -> None:
        link_world(folder)
        rows = _own_rows(folder, name)
        replace(folder / "questions.jsonl", _lines(rows))
        replace(folder / "answers.jsonl", _answers([row["id"] for row in rows]))

    options = (f"benchmark=[{name}]", f"benchmark.{name}.path=@/questions.jsonl", "score_answers.file=@/answers.jsonl")
    command = ("score-answers", *SMALL, *options, "score_answers.name=other", "runtime.output_root=@/outputs")
    return Scene(f"questions-{name}", command, prepare)


def _own_rows(folder: Path, name: str) -> list[Any]:
    (path,) = (folder / "outputs" / "data").glob(f"tiny-*/benchmarks/{name}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _answers(ids: list[str]) -> bytes:
    return _lines([{"question_id": each, "text": "A"} for each in ids])


def _lines(rows: list[Any]) -> bytes:
    return b"".join(dumped(row) + b"\n" for row in rows)


def questions(rng: random.Random) -> Iterator[BadInput]:
    """Official question files: damaged, without a column, with values of other forms."""
    while True:
        name = rng.choice(list(REQUIRED))
        file = rng.choice(list(REQUIRED[name]))
        good = OFFICIAL[name][0][file]
        place, new = rng.choice(REQUIRED[name][file]), rng.choice(NO_VALUES)
        shown = f"{'.'.join(map(str, place))} {'taken away' if new is ... else repr(new)}"
        yield _question(name, file, NO, ascii_json(at(good, place, new)), shown)
        what, expected, change = rng.choice([*ANY_FILE, *JSON_TEXT])
        yield _question(name, file, expected, change(dumped(good), rng), what)
        what, value = shuffled_value(good, rng)
        yield _question(name, file, ANY_VALUE, ascii_json(value), f"at random: {what}")
        yield _pickle(rng) if rng.random() < 0.4 else _zip(rng)
        yield _table(rng)


def _question(name: str, file: str, expected: frozenset[str], content: bytes, what: str) -> BadInput:
    def change(folder: Path) -> None:
        replace(folder / "data" / file, content)

    return BadInput(
        "official questions", f"{name}/{file}: {what}", scene(name), expected, (name, Path(file).name), change
    )


def _pickle(rng: random.Random) -> BadInput:
    good = OFFICIAL["refcocog"][0]["refs(umd).p"]
    what, content = rng.choice(
        [("another object", pickle.dumps(rng.choice(PICKLES)))] * 3 + [("noise", flipped(good, rng))]
    )
    expected = ANY_VALUE if what == "noise" else NO
    return _question("refcocog", "refs(umd).p", expected, content, f"{what} {content[:30]!r}")


def _zip(rng: random.Random) -> BadInput:
    """GQA's questions packed, and the package damaged."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("q.json", dumped(OFFICIAL["gqa"][0]["testdev_balanced_questions.json"]))
    ways = [("cut", cut, NO), ("inserted", inserted, ANY_VALUE), ("flipped", flipped, ANY_VALUE)]
    what, change, expected = rng.choice([*ways, ("whole", lambda content, rng: content, frozenset({SAME}))])
    content = change(file.getvalue(), rng)

    def put(folder: Path) -> None:
        (folder / "data" / "testdev_balanced_questions.json").unlink()
        replace(folder / "data" / "testdev_balanced_questions.zip", content)

    return BadInput(
        "official questions", f"gqa zip: {what}", scene("gqa"), expected, ("gqa", "testdev_balanced_questions"), put
    )


def _table(rng: random.Random) -> BadInput:
    """A table with a cell, a row or its header changed."""
    tables = ["mmbench", "mmbench", "flickr30k", "mmlu"]
    name = rng.choice(tables)
    file = rng.choice([file for file in OFFICIAL[name][0] if not file.startswith("images")])
    rows = [line.split(b"\t") for line in OFFICIAL[name][0][file].encode().split(b"\n")]
    if rng.random() < 0.3:
        what, _, change = rng.choice(ANY_FILE)
        expected = ANY_VALUE if what == "cut" else NO
        return _question(name, file, expected, change(b"\n".join(b"\t".join(row) for row in rows), rng), what)
    row = rng.choice([row for row in rows if row != [b""]])
    column = rng.randrange(len(row))
    new = rng.choice(CELLS)
    what = f"{row[column][:20]!r} becomes {new!r}" if rng.random() < 0.7 else f"without {row[column][:20]!r}"
    row[column : column + 1] = [new.encode()] if "becomes" in what else []
    return _question(name, file, ANY_VALUE, b"\n".join(b"\t".join(each) for each in rows), what)


def question_files(rng: random.Random) -> Iterator[BadInput]:
    """Question files of ours, and answers of another program."""
    while True:
        name = rng.choice(list(ROWS))
        good = own_scene(name)
        column, new = rng.choice(ROWS[name]), rng.choice(NO_VALUES[:3] + NO_VALUES[6:])

        def row(folder: Path, name: str = name, column: str = column, new: Any = new) -> None:
            first, *rest = _own_rows(folder, name)
            replace(folder / "questions.jsonl", ascii_json(at(first, (column,), new)) + b"\n" + _lines(rest))

        shown = f"{name}: {column} {'taken away' if new is ... else repr(new)}"
        yield BadInput("question file", shown, good, NO, ("questions.jsonl",), row)

        def anything(folder: Path, name: str = name, seed: float = rng.random()) -> None:
            rows, own = _own_rows(folder, name), random.Random(seed)
            lines = [ascii_json(each) for each in shuffled_value(rows, own)[1]]
            replace(folder / "questions.jsonl", b"\n".join(lines) + b"\n")

        # a question that has gone leaves an answer that no question has
        yield BadInput(
            "question file", f"{name}: at random", good, ANY_VALUE, ("questions.jsonl", "score_answers"), anything
        )
        what, expected, change = rng.choice(ANY_FILE)
        expected = ANY_VALUE if what == "cut" else expected
        file = rng.choice(["questions.jsonl", "answers.jsonl"])

        def damage(folder: Path, file: str = file, change: Any = change, seed: float = rng.random()) -> None:
            replace(folder / file, change((folder / file).read_bytes(), random.Random(seed)))

        yield BadInput("question file", f"{name}: {file} {what}", good, expected, (file, "score_answers"), damage)
        content = rng.choice(ANSWERS)
        answers = lambda folder, content=content: replace(folder / "answers.jsonl", content)  # noqa: E731
        yield BadInput("answers of others", f"{content[:50]!r}", good, NO, ("answers.jsonl",), answers)


ANSWERS = (
    *(b"null\n", b"[]\n", b"3\n", b'"a"\n', b"{}\n", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe\x00"),
    *(b'{"question_id": null, "text": "a"}\n', b'{"question_id": "nobody", "text": "A"}\n'),
    *(b'{"question_id": [1], "text": "a"}\n', b'{"question_id": "0", "text": {}}\n'),
    *(b'{"question_id": "0", "text": []}\n', b'{"question_id": "0", "text": "\\ud800"}\n'),
)
