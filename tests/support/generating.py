"""Generators of the embedded LVLM, and benchmarks answered with them in this process."""

from __future__ import annotations

import torch

from vrx.config.schema import RunConfig
from vrx.evaluation import benchmarks
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import AnswerFunction, Generator
from vrx.metrics.answer import Answer
from vrx.models import loading


def generator_of(run: RunConfig, dtype: torch.dtype = torch.float32) -> Generator:
    """The untuned LVLM of a run."""
    return Generator(loading.load(run.model, dtype=dtype), loading.load_model_tokenizer(run.model), run.model)


def samples_of(run: RunConfig, name: str, *, limit: int | None = None) -> list[Sample]:
    """The samples of one of a run's benchmarks."""
    return benchmarks.samples(name, run.benchmark[name], limit=limit)


def answer_in_batches(generator: Generator, samples: list[Sample], answer: AnswerFunction, size: int) -> list[Answer]:
    """The answers to samples, so many at a time."""
    encoded = [generator.encode(sample) for sample in samples]
    return [answered for first in range(0, len(encoded), size) for answered in answer(encoded[first : first + size])]
