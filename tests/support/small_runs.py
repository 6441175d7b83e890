"""A run described in code, whose base weights are three small folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vrx.config.schema import JobConfig, LayerCountConfig, ModelConfig, RunConfig, SelectorConfig

DATA = "d" * 64  # stands for the digest of the instruction data
PARTS = ("backbone", "vision_tower", "projector")


def small_run(root: Path) -> RunConfig:
    """Eight sparse layers of a model of 32; weights and outputs are below `root`."""
    for part in PARTS:
        (root / part).mkdir()
        (root / part / "model.safetensors").write_bytes(part.encode())
    folders = {part: str(root / part) for part in PARTS}
    run = RunConfig(
        job=JobConfig(name="finetune"),
        model=ModelConfig(
            name="m", num_layers=32, template="vicuna_v1", image_token="<0x00>", num_image_tokens=16, **folders
        ),
        selector=SelectorConfig(name="sparse_uniform", rule="sparse_uniform"),
        layer_count=LayerCountConfig(k=8),
        recipe="paper",
    )
    run.runtime.output_root = str(root / "outputs")
    return run


def changed(run: RunConfig, key: str, value: Any) -> RunConfig:
    """The run with one key, dots and all, set to another value."""
    part, _, name = key.partition(".")
    if not name:
        return dataclasses.replace(run, **{part: value})
    return dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **{name: value})})
