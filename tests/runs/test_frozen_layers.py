"""Layers are selected once, by jobs that tune, and frozen; other jobs read no importance scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.runs.layer_selection import select_layers, with_frozen_layers

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"


@pytest.mark.parametrize("option", ["layer_count=25pct", "layer_count=8_layers", "selector=all"])
def test_the_frozen_number_of_layers_is_that_of_the_frozen_list(make_run: Callable[..., RunConfig], option: str):
    run = make_run(option)
    layers = select_layers(run)
    frozen = with_frozen_layers(run, layers)
    assert frozen.layer_count.k == len(layers) and frozen.layer_count.fraction is None
    assert frozen.selector.layers == list(layers) and select_layers(frozen) == layers


def test_a_report_needs_no_importance_scores(make_run: Callable[..., RunConfig], tmp_path: Path):
    shutil.copytree(OLD_RUNS, tmp_path / "finetune" / "tiny")
    report(make_run("job=report", "selector=block_influence", f"runtime.output_root={tmp_path}", "wandb.mode=disabled"))
    assert list(tmp_path.rglob("*.html"))
