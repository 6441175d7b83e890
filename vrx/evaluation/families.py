"""Families of benchmarks: how the rows of a question file become samples.

A family is a function `(name, config) -> samples`. Its file is JSON Lines, one question a line, which the readers in
`vrx/evaluation/readers` write; `question_rows` has the keys of each family's rows. `image` is a path in the image
folder, left out of questions about a text only.

A benchmark with another answer format needs a YAML in `conf/benchmark`, a metric and, if its data are not in this form,
a reader. It needs a new family only if its rows do not fit any of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.config.schema import BenchmarkConfig
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.data.instructions.record_checks import refuse_unreadable_texts
from vrx.evaluation.question_rows import DocumentRow, GroundingRow, MultipleChoiceRow, ShortAnswerRow
from vrx.metrics.answer import Answer
from vrx.runs.json_text import parse_json

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Sample:
    """One question: the prompt, the image, and an answer that holds everything scoring needs except the text."""

    prompt: str
    image: Path | None
    answer: Answer
    box_scale: str | None = None  # as of BenchmarkConfig


def short_answer(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Questions answered in a word or a phrase."""

    def build(row: ShortAnswerRow) -> Sample:
        answer = Answer(
            id=str(row["id"]),
            text="",
            references=_texts(row["answers"], "answers"),
            choices=_texts(row["choices"], "choices") if "choices" in row else (),
            question_type=row.get("question_type", ""),
        )
        return Sample(config.prompt.replace("{question}", row["question"]), None, answer)

    return list(_read(name, config, build))


def multiple_choice(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Questions answered by the letter of an option; a hint comes first, the options each on a line after it."""

    def build(row: MultipleChoiceRow) -> Sample:
        choices = _texts(row["choices"], "choices")
        hint = row.get("hint")
        lines = [f"{config.hint_prefix}{hint}"] if hint else []
        lines.append(row["question"])
        lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
        if row["answer"] not in tuple(LETTERS[: len(choices)]):
            raise UserError(f"answer {row['answer']!r} is no letter of {len(choices)} choices")
        answer = Answer(
            id=str(row["id"]),
            text="",
            references=(row["answer"],),
            choices=choices,
            question_type=row.get("question_type", ""),
            group=str(row.get("group", "")),
        )
        return Sample(config.prompt.replace("{question}", "\n".join(lines)), None, answer)

    return list(_read(name, config, build))


def grounding(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Descriptions of a region, answered by its box."""

    def build(row: GroundingRow) -> Sample:
        x1, y1, x2, y2 = map(float, row["box"])
        if not (x1 < x2 and y1 < y2):  # also where one is NaN
            raise UserError(f"box {row['box']} has no area; its corners are left, top, right, bottom")
        size = (int(row["width"]), int(row["height"]))
        if min(size) < 1:
            raise UserError(f"width {row['width']} and height {row['height']} must be pixels of an image")
        answer = Answer(id=str(row["id"]), text="", references=(), box=(x1, y1, x2, y2), image_size=size)
        return Sample(config.prompt.replace("{question}", row["question"]), None, answer, config.box_scale)

    return list(_read(name, config, build))


def document(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Whole texts, for log-likelihoods; words and bytes are counted in the text unless the row gives their numbers."""

    def build(row: DocumentRow) -> Sample:
        text = row["text"]
        if not text.strip():
            raise UserError("text is empty")
        words, size = row.get("num_words", len(text.split())), row.get("num_bytes", len(text.encode()))
        answer = Answer(str(row["id"]), "", (), question_type=row.get("question_type", ""))
        return Sample(text, None, replace(answer, num_words=words, num_bytes=size))

    return list(_read(name, config, build, may_have_tags=True))


def _texts(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(entry is None for entry in value):
        raise UserError(f"{key} {value!r} is no list of at least one text")
    return tuple(map(str, value))


def _read(
    name: str, config: BenchmarkConfig, build: Callable[[Any], Sample], *, may_have_tags: bool = False
) -> Iterator[Sample]:
    """The samples of a question file with their images; errors name file, line and key.

    may_have_tags: an image tag is text like any other.
    """
    if config.path is None:
        forms = f"conf/benchmark/{name}.yaml" if config.reader else "vrx/evaluation/families.py"
        raise UserError(f"benchmark.{name}.path=null: name its questions; {forms} lists the accepted forms")
    path = Path(config.path)
    if not path.is_file():
        raise UserError(f"benchmark.{name}.path={path}: no such file")
    folder = Path(config.image_folder).absolute() if config.image_folder else None
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):  # str would split at U+2028 too
        label = f"{path}: line {number}"
        try:
            row = parse_json(line, is_line=True)
            refuse_unreadable_texts(row)
            sample = build(row)
        except KeyError as error:
            raise UserError(f"{label}: key {error} is missing") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{label}: {error}") from None
        if row.get("image") is not None:
            sample = replace(sample, image=_image(row["image"], folder, name, label))
        num_tags = sample.prompt.count(IMAGE_TAG)
        if num_tags > (sample.image is not None) and not may_have_tags:
            images = "one image" if sample.image else "no image"
            raise UserError(f"{label}: question {sample.answer.id} has {num_tags} {IMAGE_TAG} tags for {images}")
        yield sample


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _image(value: object, folder: Path | None, name: str, label: str) -> Path:
    """The image file that a row names; `label` is the row's file and line."""
    if not isinstance(value, str) or not value:
        raise UserError(f"{label}: image {value!r} is no path")
    if folder is None:
        raise UserError(f"{label}: image {value}, but benchmark.{name}.image_folder is not set")
    try:
        image = inside(folder, value)
    except ValueError as error:
        raise UserError(f"{label}: image {error}") from None
    if not _is_file(image):
        raise UserError(f"{label}: image {image} does not exist")
    return image
