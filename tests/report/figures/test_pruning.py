"""Figure 1, right, and Figure 4: a line for each way to choose the pruned layers."""

from __future__ import annotations

from pathlib import Path

from support.altered_runs import DEPTH, altered_run
from support.report_runs import PAPER

from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.pruning import figure1_pruning, figure4


def pruning(folder: Path, layers: tuple[int, ...], pruned: tuple[int, ...], *chosen_by: str, score: float) -> Run:
    scores = {name: {"value": score} for name in ("tiny_ocrvqa", "tiny_docvqa")}
    return altered_run(folder, layers, scores, model="tiny", pruned=pruned, chosen_by=chosen_by)


def test_prunings_differ_by_what_was_tuned_and_how_layers_were_chosen(tmp_path: Path):
    all_layers, region = tuple(range(DEPTH)), (0, 10, 20, 30)
    runs = [
        pruning(tmp_path, all_layers, (), score=0.9),
        pruning(tmp_path, all_layers, (9,), "angle anywhere", score=0.5),
        pruning(tmp_path, region, (), score=0.8),
        pruning(tmp_path, region, (9,), "angle anywhere", "angle outside the region", score=0.7),
        pruning(tmp_path, region, (9, 10), "angle anywhere", score=0.1),
    ]
    (plot,) = figure4(FigureInputs(runs, PAPER))
    assert [panel.title for panel in plot.panels] == ["tiny_ocrvqa", "tiny_docvqa"]
    points = {line.name: [(x, round(y)) for x, y, _ in line.points] for line in plot.panels[0].lines}
    assert points == {
        "4 layers tuned; by angle outside the region": [(0, 80), (1, 70)],
        "4 layers tuned; by angle anywhere": [(0, 80), (1, 70), (2, 10)],
        "all layers tuned; by angle anywhere": [(0, 90), (1, 50)],
    }
    (right,) = figure1_pruning(FigureInputs(runs, PAPER))
    assert [line.name for line in right.panels[0].lines] == ["tiny_ocrvqa", "tiny_docvqa"]
    assert figure4(FigureInputs(list(reversed(runs)), PAPER)) == [plot]
