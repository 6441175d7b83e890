"""The samples on which importance scores are taken, drawn from benchmarks."""

from __future__ import annotations

import random
from typing import Any

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.evaluation import benchmarks
from vrx.evaluation.families import Sample
from vrx.runs import content_digest
from vrx.runs.files import digest

PAPERS = ("docvqa", "ocrvqa", "tdiuc", "refcocog")  # appendix A, "Image Attention Score", 50 samples of each
Drawn = list[tuple[str, Sample]]


def drawn(run: RunConfig) -> Drawn:
    """(benchmark, sample), by lot and without replacement; the lot depends on the benchmark's name alone, and fewer
    samples are the first of more."""
    found: Drawn = []
    for name in chosen(run):
        seen = [sample for sample in benchmarks.samples(name, run.benchmark[name], limit=None) if sample.image]
        if not seen:
            raise UserError(f"score.benchmarks=[{name}]: its questions have no images; valid are visual benchmarks")
        random.Random(name).shuffle(seen)
        found += [(name, sample) for sample in seen[: run.score.samples_per_benchmark]]
    return found


def chosen(run: RunConfig) -> list[str]:
    """The benchmarks to draw from: those named, else the paper's four, else (where the run has none of them) all."""
    if run.score.benchmarks is not None:
        missing = [name for name in run.score.benchmarks if name not in run.benchmark]
        if missing or not run.score.benchmarks:
            raise UserError(
                f"score.benchmarks={run.score.benchmarks}: valid are the run's benchmarks, {', '.join(run.benchmark)}"
            )
        return run.score.benchmarks
    papers = [name for name in run.benchmark if name.removeprefix("tiny_") in PAPERS]
    return papers or list(run.benchmark)


def told(samples: Drawn) -> dict[str, Any]:
    """What a score file says of its samples: how many of which benchmarks, and a digest of what the model saw."""
    names = [name for name, _ in samples]
    seen = []
    for name, sample in samples:
        assert sample.image is not None, "only samples with an image are drawn"
        seen.append([name, sample.answer.id, sample.prompt, content_digest.image_digest(sample.image)])
    number = {name: names.count(name) for name in dict.fromkeys(names)}
    return {"benchmarks": number, "num_samples": len(samples), "digest": digest(seen)[:16]}
