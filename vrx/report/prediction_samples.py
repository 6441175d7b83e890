"""Predictions to look at: the worst and some random ones of each run and benchmark, with small pictures."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation import benchmarks
from vrx.launch.logging import log
from vrx.metrics.answer import Answer
from vrx.report.collect import Run
from vrx.report.question_scores import UNSCORABLE, load_answers
from vrx.runs.run_dir import RunDir

MAX_PICTURES = 1500  # later predictions have none

Reason = Literal["worst", "random"]  # why a prediction was chosen
Questions = dict[str, tuple[str, Path | None]]  # prompt and image by id


@dataclass(frozen=True)
class SampleCounts:
    """How many predictions of a benchmark to show, and the size of their pictures in pixels."""

    num_worst: int = 4
    num_random: int = 4
    side: int = 96


@dataclass(frozen=True)
class Prediction:
    """One answer; `picture` is a data URI or empty."""

    id: str
    reason: Reason
    question: str
    text: str
    references: str
    score: float
    picture: str


@dataclass(frozen=True)
class PredictionGallery:
    """The chosen predictions of a run on a benchmark."""

    run: Run
    benchmark: str
    predictions: tuple[Prediction, ...]

    @property
    def score(self) -> float:
        """The run's score on the benchmark, in percent."""
        return self.run.percent(self.benchmark)


def prediction_galleries(runs: Sequence[Run], counts: SampleCounts | None = None) -> list[PredictionGallery]:
    """Some predictions of each run and benchmark. The random ones are the same questions in every run."""
    counts = counts or SampleCounts()
    maker = _GalleryMaker(counts)
    galleries: list[PredictionGallery] = []
    for run in runs:
        for name in run.record.scores:
            if not (loaded := load_answers(run, name)):
                continue
            try:
                galleries.append(maker.gallery(run, name, *loaded))
            except UNSCORABLE as error:
                log(f"left out of the report: answers {RunDir(run.folder).predictions(name)}: {error!r}")
    return galleries


class _GalleryMaker:
    """Reads questions and pictures once for all runs, and counts the pictures of the page."""

    def __init__(self, counts: SampleCounts) -> None:
        self.counts = counts
        self.questions: Callable[[str, str], Questions] = functools.cache(read_questions)
        self.thumbnail: Callable[[Path, int], str] = functools.cache(thumbnail)
        self.num_pictures = 0

    def gallery(self, run: Run, name: str, config: BenchmarkConfig, answers: Sequence[Answer]) -> PredictionGallery:
        questions = self.questions(name, json.dumps(dataclasses.asdict(config)))
        predictions = []
        for reason, answer, score in choose_predictions(name, answers, config, self.counts):
            question, image = questions.get(answer.id, ("", None))
            picture = self.thumbnail(image, self.counts.side) if image and self.num_pictures < MAX_PICTURES else ""
            self.num_pictures += bool(picture)
            references = ", ".join(dict.fromkeys(answer.references)) or f"box {answer.box}"
            predictions.append(Prediction(answer.id, reason, question, answer.text, references, score, picture))
        return PredictionGallery(run, name, tuple(predictions))


def choose_predictions(
    name: str, answers: Sequence[Answer], config: BenchmarkConfig, counts: SampleCounts
) -> list[tuple[Reason, Answer, float]]:
    """The worst and some random answers, each with its score.

    The random ones are drawn first, seeded with the benchmark's name; the worst of the rest follow, ties in random
    order.
    """
    metric, generator = resolve_name("metric", config.metric), random.Random(name)
    order = sorted(answers, key=lambda answer: answer.id)
    generator.shuffle(order)
    scored = [(answer, metric(answer)) for answer in order]
    worst = sorted(scored[counts.num_random :], key=lambda pair: pair[1])[: counts.num_worst]
    chosen: list[tuple[Reason, Answer, float]] = [("worst", *pair) for pair in worst]
    return chosen + [("random", *pair) for pair in scored[: counts.num_random]]


def read_questions(name: str, config_json: str) -> Questions:
    """The questions of a benchmark; none where its data are gone. The configuration comes as JSON, to be hashable."""
    try:
        samples = benchmarks.samples(name, BenchmarkConfig(**json.loads(config_json)), limit=None)
    except (ValueError, OSError, TypeError):
        return {}
    return {sample.answer.id: (sample.prompt, sample.image) for sample in samples}


def thumbnail(path: Path, side: int) -> str:
    """A data URI: PNG for what is small already, else JPEG; empty where the file is not a picture."""
    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            small, file_format = image.convert("RGB"), "PNG" if max(image.size) <= side else "JPEG"
        small.thumbnail((side, side))
        small.save(file, file_format, **({"optimize": True} if file_format == "PNG" else {"quality": 80}))
    except Exception:  # Pillow raises many kinds of errors for broken files
        return ""
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
