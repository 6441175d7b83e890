"""Regions by score and cost, and what was run in numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.report_runs import ALL, SPARSE, TOP, write_run

from vrx.report.collect import find_runs
from vrx.report.page.regions import ModelRegions, cost_charts, model_regions
from vrx.report.page.summary import facts


def cost(seconds: float) -> dict[str, object]:
    return {"steps": 10, "seconds": seconds, "gpu_hours": seconds / 3600, "flops": 1e15}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regions")
    write_run(root, ALL, skill=1.0, train=cost(100))
    for seed in (0, 1):
        write_run(root, SPARSE, skill=0.97, seed=seed, train=cost(80))
    write_run(root, TOP, skill=0.3, train=cost(90))
    write_run(root, (0, 1), skill=0.2, train=cost(60))
    return root


@pytest.fixture(scope="module")
def regions(root: Path) -> ModelRegions:
    (found,) = model_regions(find_runs(root))
    return found


def test_runs_of_the_same_layers_are_one_region_the_best_first(regions: ModelRegions):
    assert [(each.layers, len(each.runs)) for each in regions.regions] == [(ALL, 1), (SPARSE, 2), (TOP, 1), ((0, 1), 1)]
    assert regions.best is not None and regions.best.layers == SPARSE
    assert regions.best.costs["seconds of training"] == 80
    assert [run.seed for run in regions.first_comparison] == [0, 0]


def test_the_front_has_what_no_cheaper_region_beats(regions: ModelRegions):
    front = regions.front("seconds of training")
    assert [each.layers for each in front] == [(0, 1), SPARSE, ALL]
    first = cost_charts(regions)[0].to_json()
    assert [series["hollow"] for series in first["series"]] == [False, True]
    assert [point[0] for point in first["series"][1]["points"]] == [pytest.approx(90 / 3600, rel=1e-4)]


def test_facts_count_what_was_run(root: Path):
    counted = facts(find_runs(root))
    assert counted["runs"] == "5 fine-tunes" and counted["seeds"] == "0, 1"
    assert counted["training"] == f"{410 / 3600:.1f} GPU-hours, 5 PFLOPs"
