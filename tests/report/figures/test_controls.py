"""Controls: selectors among random selections of layers."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from support.composing import composed
from support.report_runs import ALL, PAPER, SPARSE, TOP, VISUAL, write_run

from vrx.report.collect import Run, find_runs
from vrx.report.figures.controls import MIN_SELECTIONS, controls
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.strip_plot import StripPlot, StripRow, percentile
from vrx.report.paper_artifacts import artifact_as_text


def scored(run: Run, value: float, *selectors: str) -> None:
    """Give the run's record these selectors, and one score in all columns."""
    scores = {name: dataclasses.replace(entry, value=value) for name, entry in run.record.scores.items()}
    dataclasses.replace(run.record, selectors=list(selectors), scores=scores).write(run.folder / "record.json")


def random_layers(number: int) -> tuple[int, ...]:
    return tuple(sorted(random.Random(number).sample(range(32), 8)))


def test_a_selector_falls_where_its_average_lies_among_random_selections(tmp_path: Path):
    for number in range(20):
        for seed, off in enumerate((-0.01, 0.01)):
            scored(write_run(tmp_path, random_layers(number), seed=seed), 0.5 + number / 100 + off, "random")
    for seed, value in enumerate((0.54, 0.56)):
        scored(write_run(tmp_path, SPARSE, seed=seed), value, "sparse_uniform")
    scored(write_run(tmp_path, TOP), 0.4, "consecutive_top")
    scored(write_run(tmp_path, ALL), 0.9, "all")
    (plot,) = controls(FigureInputs(find_runs(tmp_path), PAPER))
    assert sorted(plot.random) == pytest.approx([50 + number for number in range(20)]), "one value a selection"
    assert [row.name for row in plot.rows] == ["consecutive top", "sparse uniform", "all layers"]
    sparse = plot.rows[1]
    assert (sparse.value, sparse.error) == (pytest.approx(55), pytest.approx(1)), "deviation √2, two seeds"
    assert [percentile(row.value, [round(value) for value in plot.random]) for row in plot.rows] == [0, 27.5, 100]
    text = artifact_as_text("controls", tmp_path)
    assert "20 random selections: 50.00 to 69.00" in text and "consecutive top: 40.00" in text
    assert plot.draw("png") == plot.draw("png")
    assert plot.charts()[0].rows[0][0] == "consecutive top"


def test_a_few_random_selections_are_no_distribution(tmp_path: Path):
    for number in range(MIN_SELECTIONS - 1):
        scored(write_run(tmp_path, random_layers(number)), 0.5, "random")
    scored(write_run(tmp_path, SPARSE), 0.6, "sparse_uniform")
    assert controls(FigureInputs(find_runs(tmp_path), PAPER)) == []
    assert set(PAPER.artifacts["controls"].columns) == set(VISUAL)


@pytest.mark.parametrize(("value", "place"), [(0, 0), (1, 12.5), (2.5, 50), (9, 100)])
def test_a_percentile_counts_equal_values_half(value: float, place: float):
    assert percentile(value, [1, 2, 3, 4]) == place
    assert StripPlot("n", "t", "v", (1, 2, 3, 4), (StripRow("a", value),)).charts()[0].rows[0][-1] == place


def test_every_importance_selector_can_be_reversed_by_its_name():
    for name in ("block_influence", "parameter_change_norms", "image_attention"):
        selector = composed([f"selector={name}_reversed"]).selector
        assert selector == composed([f"selector={name}", "selector.reverse=true"]).selector


def test_a_random_selection_by_its_number_does_not_depend_on_the_seed():
    selectors = [composed(["selector=random_7", f"seed={seed}"]).selector for seed in (0, 1)]
    assert selectors[0] == selectors[1] == composed(["selector=random", "selector.seed=7"]).selector
