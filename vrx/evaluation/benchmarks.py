"""The samples of a benchmark, from any form of its data."""

from __future__ import annotations

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.config.shuffled_images import plain_name
from vrx.evaluation.dataset_cache import convert
from vrx.evaluation.families import Sample
from vrx.evaluation.shuffled_images import with_other_images


def samples(name: str, config: BenchmarkConfig, *, limit: int | None, read_only: bool = False) -> list[Sample]:
    """The first `limit` samples of a benchmark in the order of its data; all if None.

    Data that are not in the form of a question file are converted by the benchmark's reader, once. Raises `UserError`
    for invalid or empty data and for duplicate ids, wherever they are. read_only: nothing is downloaded or converted,
    `NotConverted` is raised where that is still to be done.
    """
    name = plain_name(name)
    config = convert(name, config, read_only=read_only)
    family = resolve_name("family", config.family, key=f"benchmark.{name}.family")
    all_samples: list[Sample] = family(name, config)
    if not all_samples:
        raise UserError(f"benchmark.{name}.path={config.path}: holds no question")
    ids = [sample.answer.id for sample in all_samples]
    if len(set(ids)) < len(ids):
        duplicate = next(sample_id for sample_id in ids if ids.count(sample_id) > 1)
        raise UserError(f"benchmark.{name}.path={config.path}: duplicate id {duplicate}")
    if config.shuffle_images:
        all_samples = with_other_images(name, all_samples)
    return all_samples[:limit]
