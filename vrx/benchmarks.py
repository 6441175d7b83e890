"""Benchmarks: samples from local files, through one of a few families of code. What differs is data, in `conf/`.

A family is a function `(name, config) -> samples`. Its file is JSON Lines, one question a line:
`id`, `image` (a path under the image folder; none for text only), `question`, and
short answers: `answers` (list), `question_type`; multiple choice: `choices` (list), `answer` (letter), `hint`, `group`
(the question a rotation belongs to); grounding: `box` (x1, y1, x2, y2 in pixels), `width`, `height`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vrx.config import BenchmarkConfig, named
from vrx.metrics import Answer, mean, standard_error
from vrx.paths import inside

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Sample:
    """One question as the model gets it; `answer` holds all that scoring needs, its text still empty."""

    prompt: str
    image: Path | None
    answer: Answer


def samples(name: str, config: BenchmarkConfig, *, limit: int | None) -> list[Sample]:
    """The samples of a benchmark, the first `limit`; an empty one is refused."""
    found: list[Sample] = named(config._target_)(name, config)
    if not found:
        raise ValueError(f"benchmark.{name}.path={config.path}: holds no question")
    ids = [sample.answer.id for sample in found]
    if len(set(ids)) < len(ids):
        twice = next(text for text in ids if ids.count(text) > 1)
        raise ValueError(f"benchmark.{name}.path={config.path}: the id {twice} stands there twice")
    return found[:limit]


def short_answer(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Questions answered in a word or a phrase."""

    def build(row: dict[str, Any]) -> Sample:
        answer = Answer(
            id=str(row["id"]),
            text="",
            references=_texts(row, "answers"),
            question_type=row.get("question_type", ""),
        )
        return Sample(config.prompt.replace("{question}", row["question"]), None, answer)

    return list(_read(name, config, build))


def multiple_choice(name: str, config: BenchmarkConfig) -> list[Sample]:
    """Questions answered by the letter of an option; a hint comes first, the options each on a line after it."""

    def build(row: dict[str, Any]) -> Sample:
        choices = _texts(row, "choices")
        lines = [f"{config.hint_prefix}{row['hint']}"] if row.get("hint") else []
        lines.append(row["question"])
        lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
        if row["answer"] not in tuple(LETTERS[: len(choices)]):
            raise ValueError(f"answer {row['answer']!r} is no letter of {len(choices)} choices")
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

    def build(row: dict[str, Any]) -> Sample:
        x1, y1, x2, y2 = map(float, row["box"])
        size = (int(row["width"]), int(row["height"]))
        answer = Answer(id=str(row["id"]), text="", references=(), box=(x1, y1, x2, y2), image_size=size)
        return Sample(config.prompt.replace("{question}", row["question"]), None, answer)

    return list(_read(name, config, build))


def _texts(row: dict[str, Any], key: str) -> tuple[str, ...]:
    if not isinstance(row[key], list) or not row[key]:
        raise ValueError(f"{key} {row[key]!r} is no list of at least one")
    return tuple(map(str, row[key]))


def _read(name: str, config: BenchmarkConfig, build: Callable[[dict[str, Any]], Sample]) -> Iterator[Sample]:
    """The samples of a file with their images; what is wrong is named by file, line and key."""
    if config.path is None:
        raise ValueError(f"benchmark.{name}.path=null: name its questions, a JSON Lines file (see vrx/benchmarks.py)")
    path = Path(config.path)
    if not path.is_file():
        raise FileNotFoundError(f"benchmark.{name}.path={path}: no such file")
    folder = Path(config.image_folder).resolve() if config.image_folder else None
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):  # str would split at U+2028 too
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
            sample = build(row)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not valid JSON: {error.msg}") from None
        except KeyError as error:
            raise ValueError(f"{where}: key {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: {error}") from None
        if row.get("image") is not None:
            if not isinstance(row["image"], str) or not row["image"]:
                raise ValueError(f"{where}: image {row['image']!r} is no path")
            if folder is None:
                raise ValueError(f"{where}: image {row['image']}, but benchmark.{name}.image_folder is not set")
            try:
                image = inside(folder, row["image"])
            except ValueError as error:
                raise ValueError(f"{where}: image {error}") from None
            if not image.is_file():
                raise ValueError(f"{where}: image {image} does not exist")
            sample = replace(sample, image=image)
        yield sample


def score(config: BenchmarkConfig, answers: list[Answer]) -> dict[str, Any]:
    """A benchmark's entry in the record: the main score, how many questions it is over, its standard error, and every
    metric by name. Fractions in [0, 1]."""
    metrics = {"score": config.metric, **config.also}
    found: dict[str, tuple[float, float, int]] = {}
    for name, path in metrics.items():
        metric = named(path)
        if config.aggregate == "vrx.metrics.circular":
            scores = named(config.aggregate)(answers, metric)
            found[f"{name}_every_row"] = _three([metric(answer) for answer in answers])
        else:
            scores = [metric(answer) for answer in answers]
        found[name] = _three(scores)
    value, stderr, number = found["score"]
    values = {name: entry[0] for name, entry in found.items() if name != "score"}
    return {"value": value, "num_samples": number, "stderr": stderr, "metrics": values}


def _three(scores: list[float]) -> tuple[float, float, int]:
    return mean(scores), standard_error(scores), len(scores)
