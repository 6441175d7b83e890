"""Predictions to look at: of each run and benchmark the worst and some random ones, with small pictures."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation import benchmarks
from vrx.launch.logging import log
from vrx.metrics.answer import Answer
from vrx.report.collect import Run, benchmark_configs, read

WORST, RANDOM = 4, 4  # of each run and benchmark
SIDE = 96  # pixels of a thumbnail
MOST_PICTURES = 1500  # of a page; later predictions stand there without
MOST_GALLERIES = 500  # of a page; of later runs the answers are not read for it


@dataclass(frozen=True)
class Prediction:
    """One answer; `picture` is a data URI or empty."""

    id: str
    why: str  # worst | random
    question: str
    text: str
    references: str
    score: float
    picture: str


@dataclass(frozen=True)
class PredictionGallery:
    run: Run
    benchmark: str
    predictions: tuple[Prediction, ...]


def galleries(
    runs: Sequence[Run], *, num_worst: int = WORST, num_random: int = RANDOM, side: int = SIDE
) -> list[PredictionGallery]:
    """Of each run and benchmark a few predictions. The random ones are the same questions in every run."""
    questions_of, thumbnail_of = functools.cache(_questions), functools.cache(thumbnail)
    configs = {run.folder: benchmark_configs(run) for run in runs}
    elsewhere = {name: config for each in configs.values() for name, config in each.items()}
    found, pictures = [], 0
    for run in runs:
        if len(found) >= MOST_GALLERIES:
            log(f"the page shows the first {len(found)} runs and benchmarks' predictions; the others have their files")
            break
        for name in run.record.scores:
            config = configs[run.folder].get(name, elsewhere.get(name))
            given = read(run, name)
            if config is None or not given:
                continue
            questions = questions_of(name, json.dumps(dataclasses.asdict(config)))
            shown = []
            for why, answer, score in pick(name, given, config, num_worst, num_random):
                prompt, image = questions.get(answer.id, ("", None))
                picture = thumbnail_of(image, side) if image and pictures < MOST_PICTURES else ""
                pictures += bool(picture)
                told = ", ".join(dict.fromkeys(answer.references)) or f"box {answer.box}"
                shown.append(Prediction(answer.id, why, prompt, answer.text, told, score, picture))
            found.append(PredictionGallery(run, name, tuple(shown)))
    return found


def pick(
    name: str, given: list[Answer], config: BenchmarkConfig, num_worst: int, num_random: int
) -> list[tuple[str, Answer, float]]:
    """The random ones are drawn first, by the benchmark's name alone; the worst of the rest follow, ties by lot."""
    metric, lots = resolve_name("metric", config.metric), random.Random(name)
    order = sorted(given, key=lambda answer: answer.id)
    lots.shuffle(order)
    scored = [(answer, metric(answer)) for answer in order]
    worst = sorted(scored[num_random:], key=lambda pair: pair[1])[:num_worst]
    return [("worst", *pair) for pair in worst] + [("random", *pair) for pair in scored[:num_random]]


def _questions(name: str, config: str) -> dict[str, tuple[str, Path | None]]:
    """Prompt and image by id, where the benchmark's data are still there; its configuration comes as JSON."""
    try:
        samples = benchmarks.samples(name, BenchmarkConfig(**json.loads(config)), limit=None)
    except (ValueError, OSError):
        return {}
    return {sample.answer.id: (sample.prompt, sample.image) for sample in samples}


def thumbnail(path: Path, side: int = SIDE) -> str:
    """A data URI: PNG for what is small already, else JPEG; empty where the file is no picture."""
    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            small, form = image.convert("RGB"), "PNG" if max(image.size) <= side else "JPEG"
        small.thumbnail((side, side))
        small.save(file, form, **({"optimize": True} if form == "PNG" else {"quality": 80}))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
