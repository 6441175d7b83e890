"""The calibration samples that importance scores are taken on, drawn from benchmarks."""

from __future__ import annotations

import random
import re

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.evaluation import benchmarks
from vrx.evaluation.families import Sample
from vrx.runs import content_digest
from vrx.runs.files import digest

PAPER_BENCHMARKS = ("docvqa", "ocrvqa", "tdiuc", "refcocog")  # appendix A, "Image Attention Score", 50 samples of each
CalibrationSample = tuple[str, Sample]  # benchmark, sample


def draw_samples(run: RunConfig, *, read_only: bool = False) -> list[CalibrationSample]:
    """Draw `score.samples_per_benchmark` samples with an image from each benchmark, without replacement.

    The order depends on the benchmark's name only, so that a smaller draw is the beginning of a larger one.

    read_only: nothing is downloaded or converted.
    """
    drawn: list[CalibrationSample] = []
    for name in benchmark_names(run):
        config = run.benchmark[name]
        questions = benchmarks.samples(name, config, limit=None, read_only=read_only)
        samples = [sample for sample in questions if sample.image]
        if not samples:
            raise UserError(f"score.benchmarks=[{name}]: its questions have no images; valid are visual benchmarks")
        random.Random(name).shuffle(samples)
        drawn += [(name, sample) for sample in samples[: required(run.score).samples_per_benchmark]]
    return drawn


def benchmark_names(run: RunConfig) -> list[str]:
    """The benchmarks to draw from: `score.benchmarks`, by default the paper's four, else all of the run."""
    chosen = required(run.score).benchmarks
    if chosen is not None:
        if not chosen or not set(chosen) <= run.benchmark.keys():
            raise UserError(f"score.benchmarks={chosen}: valid are the run's benchmarks, {', '.join(run.benchmark)}")
        return chosen
    of_world = re.compile("(tiny|small)_")
    of_paper = [name for name in run.benchmark if of_world.sub("", name, count=1) in PAPER_BENCHMARKS]
    return of_paper or list(run.benchmark)


def describe(samples: list[CalibrationSample]) -> dict[str, object]:
    """The entry of a score file about its samples: their number by benchmark and a digest of prompts and images."""
    inputs = []
    for name, sample in samples:
        assert sample.image is not None, "only samples with an image are drawn"
        inputs.append([name, sample.answer.id, sample.prompt, content_digest.image_digest(sample.image)])
    names = [name for name, _ in samples]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return {"benchmarks": counts, "num_samples": len(samples), "digest": digest(inputs)[:16]}
