"""`eval.shuffle_images=true`: a control that asks each question with the picture of another question.

Its answers and scores have names of their own, so that they cannot be taken for those of the benchmark: `tiny_gqa`
becomes `tiny_gqa_shuffled_images` in the run's configuration, in `answers/` and in the record.
"""

from __future__ import annotations

import dataclasses

from vrx.config.schema import RunConfig

SUFFIX = "_shuffled_images"
LABEL = ", shuffled images"  # behind the name of a row


def is_shuffled(benchmark: str) -> bool:
    """Whether a benchmark of a record is the control of another one."""
    return benchmark.endswith(SUFFIX)


def plain_name(benchmark: str) -> str:
    """The benchmark that a control is of; any other benchmark is its own."""
    return benchmark.removesuffix(SUFFIX)


def with_shuffled_images(run: RunConfig) -> RunConfig:
    """The run with its benchmarks replaced by their controls where `eval.shuffle_images` says so."""
    if not run.eval.shuffle_images:
        return run
    controls = {
        plain_name(name) + SUFFIX: dataclasses.replace(benchmark, shuffle_images=True)
        for name, benchmark in run.benchmark.items()
    }
    return dataclasses.replace(run, benchmark=controls)
