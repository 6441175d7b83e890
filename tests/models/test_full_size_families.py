"""Current LVLMs in full size, counted without weights: parameters as published, what a run needs and how long it takes.

`current_configurations.json` has the fields of each released config.json that shapes depend on, and the number of
parameters that the Hub tells of the released files; of Qwen2.5-VL also that of the tower with its merger.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.composing import composed
from transformers import AutoConfig

from vrx.config.schema import RunConfig
from vrx.jobs.check import estimate
from vrx.models.native_facts import NativeCounts, architecture_of, counts_of
from vrx.runs.layer_selection import select_layers

RELEASED = json.loads((Path(__file__).parents[1] / "golden" / "current_configurations.json").read_text())
SLOW = [name if name == "qwen2.5-vl-3b" else pytest.param(name, marks=pytest.mark.slow) for name in RELEASED]
STEPS, LENGTH = 100, 1000  # LENGTH: tokens that a sample is taken to have where there are no data


@pytest.fixture
def made_up(tmp_path: Path) -> Any:
    """The run of a model whose checkpoint is a config.json alone, and its counts."""

    def make(name: str) -> tuple[RunConfig, NativeCounts]:
        options = [f"model.lvlm={tmp_path}", f"runtime.output_root={tmp_path}/outputs", "check.gpu=A100"]
        run = composed(["job=check", f"model={name}", *options, f"train.max_steps={STEPS}", "layer_count.k=9"])
        kind = architecture_of(run.model).model_type or run.model.architecture
        AutoConfig.for_model(kind, **RELEASED[name]["config"]).save_pretrained(tmp_path)
        counts = counts_of(run)
        assert isinstance(counts, NativeCounts)
        return run, counts

    return make


@pytest.mark.parametrize("name", SLOW)
def test_parameters_are_the_published_ones(made_up: Any, name: str):
    run, counts = made_up(name)
    kinds, published = counts.by_kind, RELEASED[name]
    assert sum(kinds.values()) == counts.parameters == published["parameters"]
    if "tower_and_connector" in published:
        assert kinds["tower"] + kinds["connector"] == published["tower_and_connector"]
    assert counts.backbone.num_layers == run.model.num_layers
    assert all(kinds.values())


def test_a_run_of_qwen_is_priced(made_up: Any):
    """Qwen2.5-VL-3B: 36 layers of 7 matrices, biases and two norms, and one table of embeddings for both ends."""
    run, counts = made_up("qwen2.5-vl-3b")
    width, inner, key_value, rank = 2048, 11008, 256, run.lora.r
    matrices = 2 * width * width + 2 * width * key_value + 3 * width * inner
    layer = matrices + width + 2 * key_value + 2 * width
    assert counts.by_kind["decoder layers"] == 36 * layer + width
    assert counts.by_kind["embeddings"] == 151_936 * width
    assert "36 of full_attention" in str(estimate.sizes(counts))
    _, cost = estimate.run_cost(run, select_layers(run), counts, table=None, processes=1)
    assert cost.trainable_parameters == 9 * rank * (4 * width + 2 * (width + key_value) + 3 * (width + inner))
    weights = 2e-9 * (counts.parameters + cost.trainable_parameters)
    assert weights + 14e-9 * cost.trainable_parameters < cost.memory_gb < 80  # with optimizer and activations
    assert cost.gpu_hours is not None
    flops = 4 * counts.backbone.parameters * LENGTH * STEPS * run.train.global_batch_size
    seconds = flops / (312e12 * 0.3)  # of an A100 in bf16
    assert 1 < cost.gpu_hours * 3600 / seconds < 3  # with the tower, the adapters, attention and recomputation
