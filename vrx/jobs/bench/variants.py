"""What `vrx bench` compares: the recipes and a baseline, each at several numbers of tuned layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from vrx.config.compose import compose_config
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.selectors.rules import sparse_uniform

BASELINE = "baseline"  # transformers' Trainer, PEFT and DeepSpeed ZeRO-3
SWITCHES: dict[str, tuple[str, str, bool | int | None]] = {
    "without supervised_head": ("engine", "supervised_head", None),
    "without packed": ("engine", "packed", None),
    "without fused_lora": ("engine", "fused_lora", None),
    "without compile": ("engine", "compile", None),
    "all layers checkpointed": ("train", "gradient_checkpointing", True),
    "at ZeRO-3": ("engine", "zero_stage", 3),  # turns fused_lora and compile off too
}  # recipe=fast with one setting changed


def layer_counts(run: RunConfig) -> list[int]:
    """The numbers of tuned layers to compare, largest first."""
    depth = run.model.num_layers
    few = run.layer_count.k or max(1, round((run.layer_count.fraction or 1) * depth))
    return required(run.bench).num_layers or sorted({min(few, depth), depth}, reverse=True)


def variants(run: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """Name and configuration of every variant: each recipe at each number of layers."""
    depth = run.model.num_layers
    for k in layer_counts(run):
        layers = list(range(depth)) if k == depth else list(sparse_uniform(depth, k))
        selector = dataclasses.replace(run.selector, layers=layers)
        for recipe in required(run.bench).recipes:
            config = with_recipe(run, "paper" if recipe == BASELINE else recipe)
            config = dataclasses.replace(config, selector=selector)
            yield recipe, config
            if recipe == "fast" and required(run.bench).switches:
                for name, (part, key, value) in SWITCHES.items():
                    changed = dataclasses.replace(getattr(config, part), **{key: value})
                    yield f"fast, {name}", dataclasses.replace(config, **{part: changed})


def with_recipe(run: RunConfig, recipe: str) -> RunConfig:
    """The run with another recipe; only the settings in which the recipes differ change."""
    other = "paper" if recipe == "fast" else "fast"
    wanted, unwanted = (compose_config([f"recipe={name}", "model=llava-1.5-7b"]) for name in (recipe, other))
    for part in ("train", "engine"):
        changed = {key: value for key, value in wanted[part].items() if value != unwanted[part][key]}
        run = dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **changed)})
    if run.engine.compile is not None:  # a run of full length would compile
        run = dataclasses.replace(run, engine=dataclasses.replace(run.engine, compile="always"))
    return dataclasses.replace(run, recipe=recipe)
