"""The samples of a benchmark: its data converted once, read by its family, checked."""

from __future__ import annotations

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.dataset_cache import convert
from vrx.evaluation.families import Sample


def samples(name: str, config: BenchmarkConfig, *, limit: int | None) -> list[Sample]:
    """The samples of a benchmark, the first `limit`; an empty one is refused."""
    config = convert(name, config)
    found: list[Sample] = resolve_name("family", config.family, key=f"benchmark.{name}.family")(name, config)
    if not found:
        raise UserError(f"benchmark.{name}.path={config.path}: holds no question")
    ids = [sample.answer.id for sample in found]
    if len(set(ids)) < len(ids):
        twice = next(text for text in ids if ids.count(text) > 1)
        raise UserError(f"benchmark.{name}.path={config.path}: the id {twice} stands there twice")
    return found[:limit]
