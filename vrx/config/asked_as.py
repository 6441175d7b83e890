"""How a model is asked the questions of a benchmark: as its own paper and lmms-eval do, from `asked_as.yaml`."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import yaml

from vrx.config.paths import CONF
from vrx.config.schema import BenchmarkConfig, ModelConfig, RunConfig
from vrx.config.shuffled_images import plain_name

WAYS = Path(__file__).with_name("asked_as.yaml")
CHOSEN_BY = ("benchmarks", "architectures")  # keys of an entry that say whom it is for; the others are benchmark keys


def with_own_questions(run: RunConfig, *, model: ModelConfig | None = None) -> RunConfig:
    """The run with its benchmarks asked as its model is used to; models of LLaVA-1.5's kind as conf/benchmark says.

    A key whose value is not that of conf/benchmark was set by the user, and stays. model: the one that answers, by
    default the run's.
    """
    model = model or run.model
    if model.is_assembled:
        return run
    asked = {name: asked_as(name, config, model.architecture) for name, config in run.benchmark.items()}
    return dataclasses.replace(run, benchmark=asked)


def asked_as(name: str, config: BenchmarkConfig, architecture: str) -> BenchmarkConfig:
    """A benchmark as a model of this architecture is asked it."""
    shipped = _shipped(plain_name(name))
    changes: dict[str, Any] = {}
    for way in _ways():
        if plain_name(name) in way["benchmarks"] and architecture in way.get("architectures", [architecture]):
            changes |= {key: value for key, value in way.items() if key not in CHOSEN_BY}
    free = {key: value for key, value in changes.items() if getattr(config, key) == shipped.get(key, _default(key))}
    return dataclasses.replace(config, **free)


@functools.cache
def _ways() -> list[dict[str, Any]]:
    return yaml.safe_load(WAYS.read_text(encoding="utf-8"))


@functools.cache
def _shipped(name: str) -> dict[str, Any]:
    """The keys of a benchmark in conf/benchmark; none for a benchmark of the user's own."""
    file = CONF / "benchmark" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content.get(name, {})


def _default(key: str) -> Any:
    field = next(field for field in dataclasses.fields(BenchmarkConfig) if field.name == key)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
