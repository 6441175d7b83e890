"""Figures 1 and 4: the points are the records', against what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vrx.report import figures, paper, plots
from vrx.report.collect import Run
from vrx.runs.record import parse_record

PAPER, DEPTH = paper.load(), 32
TUNED = {"data": {"fraction": 1.0}, "lora": {}, "train": {}, "engine": {}}
BLOCKS = [(), *(tuple(range(first, first + 8)) for first in (0, 8, 16, 24)), tuple(range(DEPTH))]


def run(folder: Path, *, layers: tuple[int, ...], seed: int = 0, model: str = "llava-1.5-7b", **more: Any) -> Run:
    identity = {
        "model": {"name": model, "num_layers": DEPTH},
        "weights": {},
        "layers": list(layers),
        **TUNED,
        "seed": seed,
    }
    done = {key: list(more.pop(key)) for key in ("reverted", "pruned") if key in more}
    by = {"pruned": {"by": more.pop("by")}} if "by" in more else {}
    scores = {
        name: {"num_samples": 10, "stderr": 0.0, "metrics": {}, **entry} for name, entry in more["scores"].items()
    }
    record = {
        "run_id": "0",
        "identity": {**identity, **done},
        "layers": list(layers),
        "train": None,
        "scores": scores,
        **by,
    }
    return Run(folder, parse_record(record))


def reversion(folder: Path, put: tuple[int, ...], *, seed: int = 0, worse: float = 0.0) -> Run:
    """Perplexity 10 with and without images, more by `worse`."""
    found = {"value": 0.1, "perplexity": {"token": 10.0 + worse}}
    scores = {"ocrvqa_perplexity": found, "wikitext": found, "gqa": {"value": 0.5}}
    return run(folder, layers=tuple(range(DEPTH)), seed=seed, reverted=put, scores=scores)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's directory that tells which benchmarks have images."""
    config = {"family": "short_answer", "metric": "containment"}
    told = {"ocrvqa_perplexity": {**config, "image_folder": "images"}, "wikitext": config}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"benchmark": told}))
    return tmp_path


def test_reversions_stand_beside_the_papers_with_its_arrows(folder: Path):
    runs = [reversion(folder, put, worse=number) for number, put in enumerate(BLOCKS)]
    (plot,) = figures.figure1_reversion(runs, PAPER)
    visual, text, accuracy = plot.panels
    assert visual.marks == ("none", "0 to 7", "8 to 15", "16 to 23", "24 to 31", "all")
    ours, papers = visual.lines
    assert [y for _, y, _ in ours.points] == [10, 11, 12, 13, 14, 15] and ours.level == 10  # of the LVLM
    assert [y for _, y, _ in papers.points] == [2.43, 1.87, 1.93, 2.18, 2.11, 80.75]
    assert text.lines[0].level == 15  # of the backbone
    assert [y for _, y, _ in accuracy.lines[0].points] == [50] * 6
    told = plots.as_text(plot)
    assert "ocrvqa_perplexity, perplexity, ours: none: 10.00, 0 to 7: 11.00 ↑" in told
    assert "wikitext, perplexity, ours: none: 10.00, 0 to 7: 11.00," in told


def test_of_several_seeds_a_reversion_is_the_mean(folder: Path):
    runs = [reversion(folder, put, seed=seed, worse=seed) for put in BLOCKS for seed in (0, 2)]
    (plot,) = figures.figure1_reversion(runs, PAPER)
    assert plot.panels[0].lines[0].points[0] == (0.0, 11.0, pytest.approx(2**0.5))


def test_a_reversion_alone_makes_no_figure(folder: Path):
    assert figures.figure1_reversion([reversion(folder, ())], PAPER) == []


def pruning(folder: Path, layers: tuple[int, ...], pruned: tuple[int, ...], *by: str, score: float) -> Run:
    scores = {name: {"value": score} for name in ("tiny_ocrvqa", "tiny_docvqa")}
    return run(folder, layers=layers, model="tiny", pruned=pruned, by=list(by), scores=scores)


def test_prunings_are_told_apart_by_what_was_tuned_and_how_they_were_chosen(tmp_path: Path):
    whole, region = tuple(range(DEPTH)), (0, 10, 20, 30)
    runs = [
        pruning(tmp_path, whole, (), score=0.9),
        pruning(tmp_path, whole, (9,), "angle anywhere", score=0.5),
        pruning(tmp_path, region, (), score=0.8),
        pruning(tmp_path, region, (9,), "angle anywhere", "angle outside the region", score=0.7),
        pruning(tmp_path, region, (9, 10), "angle anywhere", score=0.1),
    ]
    (plot,) = figures.figure4(runs, PAPER)
    assert [panel.title for panel in plot.panels] == ["tiny_ocrvqa", "tiny_docvqa"]
    points = {line.name: [(x, round(y)) for x, y, _ in line.points] for line in plot.panels[0].lines}
    assert points == {
        "4 layers tuned; by angle outside the region": [(0, 80), (1, 70)],
        "4 layers tuned; by angle anywhere": [(0, 80), (1, 70), (2, 10)],
        "all layers tuned; by angle anywhere": [(0, 90), (1, 50)],
    }
    (right,) = figures.figure1_pruning(runs, PAPER)
    assert [line.name for line in right.panels[0].lines] == ["tiny_ocrvqa", "tiny_docvqa"]
    assert figures.figure4(list(reversed(runs)), PAPER) == [plot]


def test_named_places_are_drawn():
    line = plots.Line("ours", ((0.0, 1.0, None), (1.0, 2.0, 0.5)), level=1.5)
    panel = plots.Panel("t", "x", "y", (line,), marks=("none", "0 to 7"), arrows=True)
    assert plots.draw(plots.Plot("p", "p", (panel,)), "png").startswith(b"\x89PNG")
