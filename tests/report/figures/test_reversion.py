"""Figure 1, left: the points are the records', next to the paper's and marked against their reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.altered_runs import DEPTH, altered_run
from support.report_runs import PAPER

from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.reversion import figure1_reversion

BLOCKS = [(), *(tuple(range(first, first + 8)) for first in (0, 8, 16, 24)), tuple(range(DEPTH))]


def reversion(folder: Path, reverted: tuple[int, ...], *, seed: int = 0, extra_perplexity: float = 0.0) -> Run:
    entry = {"value": 0.1, "perplexity": {"token": 10.0 + extra_perplexity}}
    scores = {"ocrvqa_perplexity": entry, "wikitext": entry, "gqa": {"value": 0.5}}
    return altered_run(folder, tuple(range(DEPTH)), scores, model="llava-1.5-7b", seed=seed, reverted=reverted)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's directory, whose configuration says which benchmarks have images."""
    config = {"family": "short_answer", "metric": "containment"}
    benchmarks = {"ocrvqa_perplexity": {**config, "image_folder": "images"}, "wikitext": config}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"benchmark": benchmarks}))
    return tmp_path


def test_reversions_are_next_to_the_papers_with_its_arrows(folder: Path):
    runs = [reversion(folder, layers, extra_perplexity=number) for number, layers in enumerate(BLOCKS)]
    (plot,) = figure1_reversion(FigureInputs(runs, PAPER))
    visual, text, accuracy = plot.panels
    assert visual.marks == ("none", "0 to 7", "8 to 15", "16 to 23", "24 to 31", "all")
    ours, papers = visual.lines
    assert [y for _, y, _ in ours.points] == [10, 11, 12, 13, 14, 15]
    assert ours.level == 10  # of the LVLM without reversion
    assert [y for _, y, _ in papers.points] == [2.43, 1.87, 1.93, 2.18, 2.11, 80.75]
    assert text.lines[0].level == 15  # of the backbone
    assert [y for _, y, _ in accuracy.lines[0].points] == [50] * 6
    lines = plot.as_text()
    assert "ocrvqa_perplexity, perplexity, ours: none: 10.00, 0 to 7: 11.00 ↑" in lines
    assert "wikitext, perplexity, ours: none: 10.00, 0 to 7: 11.00," in lines


def test_reverted_layers_stand_in_their_order_whatever_their_number(folder: Path):
    layer_sets = [tuple(range(32)), (30, 31), tuple(range(7)), ()]
    runs = [reversion(folder, layers) for layers in layer_sets]
    (plot,) = figure1_reversion(FigureInputs(runs, PAPER))
    assert plot.panels[0].marks == ("none", "0 to 6", "30, 31", "all")


def test_perplexities_far_apart_have_a_logarithmic_axis(folder: Path):
    runs = [reversion(folder, layers, extra_perplexity=300 * len(layers)) for layers in ((), tuple(range(32)))]
    (plot,) = figure1_reversion(FigureInputs(runs, PAPER))
    visual, _, accuracy = plot.panels
    assert visual.is_log_y and not accuracy.is_log_y
    near = [reversion(folder, layers, extra_perplexity=len(layers)) for layers in ((), (3,))]
    (plot,) = figure1_reversion(FigureInputs(near, PAPER))
    assert not plot.panels[0].is_log_y


def test_several_seeds_give_the_mean(folder: Path):
    runs = [reversion(folder, layers, seed=seed, extra_perplexity=seed) for layers in BLOCKS for seed in (0, 2)]
    (plot,) = figure1_reversion(FigureInputs(runs, PAPER))
    assert plot.panels[0].lines[0].points[0] == (0.0, 11.0, pytest.approx(1))


def test_a_single_reversion_makes_no_figure(folder: Path):
    assert figure1_reversion(FigureInputs([reversion(folder, ())], PAPER)) == []
