"""What `vrx job=bench` compares: recipes, and a peer, each at several numbers of layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from vrx.config.compose import compose_config
from vrx.config.schema import RunConfig
from vrx.selectors.rules import sparse_uniform

SWITCHES: dict[str, tuple[str, str, Any]] = {
    "without supervised_head": ("engine", "supervised_head", None),
    "without packed": ("engine", "packed", None),
    "without fused_lora": ("engine", "fused_lora", None),
    "without compile": ("engine", "compile", None),
    "all layers checkpointed": ("train", "gradient_checkpointing", True),
    "at ZeRO-3": ("engine", "zero_stage", 3),  # without fused_lora and compile, then
}  # of recipe=fast, each by itself the other way


def layer_counts(run: RunConfig) -> list[int]:
    """The numbers of layers to compare, most first."""
    depth = run.model.num_layers
    few = run.layer_count.k or max(1, round((run.layer_count.fraction or 1) * depth))
    return run.bench.num_layers or sorted({min(few, depth), depth}, reverse=True)


def variants(run: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """What is compared: every recipe at every number of layers, named."""
    depth = run.model.num_layers
    for k in layer_counts(run):
        layers = list(range(depth)) if k == depth else list(sparse_uniform(depth, k))
        selector = dataclasses.replace(run.selector, layers=layers)
        for recipe in run.bench.recipes:
            one = dataclasses.replace(with_recipe(run, "paper" if recipe == "peer" else recipe), selector=selector)
            yield recipe, one
            if recipe == "fast" and run.bench.switches:
                for name, (part, key, value) in SWITCHES.items():
                    yield f"fast, {name}", dataclasses.replace(one, **{part: _with(getattr(one, part), key, value)})


def _with(part: Any, key: str, value: Any) -> Any:
    return dataclasses.replace(part, **{key: value})


def with_recipe(run: RunConfig, recipe: str) -> RunConfig:
    """The run by another recipe: of its settings those change in which the recipes differ."""
    other = "paper" if recipe == "fast" else "fast"
    wanted, unwanted = (compose_config([f"recipe={name}", "model=llava-1.5-7b"]) for name in (recipe, other))
    for part in ("train", "engine"):
        changed = {key: value for key, value in wanted[part].items() if value != unwanted[part][key]}
        run = dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **changed)})
    if run.engine.compile is not None:
        run = dataclasses.replace(run, engine=_with(run.engine, "compile", "always"))  # as in a run of full length
    return dataclasses.replace(run, recipe=recipe)
