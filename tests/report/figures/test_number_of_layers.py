"""Figures 2 and 3."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.report_runs import BUNNY, PAPER, TOP, write_run

from vrx.report.collect import find_runs
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.number_of_layers import figure2, figure3
from vrx.selectors.rules import sparse_uniform


def test_figure_2_has_a_panel_a_benchmark_and_a_line_an_amount_of_data(tmp_path: Path):
    for fraction in (1.0, 0.1):
        for k in (32, 8, 2):
            write_run(tmp_path, sparse_uniform(32, k), fraction=fraction)
    write_run(tmp_path, TOP)  # not sparse and uniform
    (plot,) = figure2(FigureInputs(find_runs(tmp_path), PAPER))
    assert plot.name == f"figure2_{BUNNY}"
    assert [panel.title for panel in plot.panels] == ["OCRVQA", "TextVQA", "TDIUC", "GQA"]
    for panel in plot.panels:
        assert [line.name for line in panel.lines] == ["100 % of the data", "10 % of the data", "paper, 100 %"]
        ours = panel.lines[0]
        assert [x for x, _, _ in ours.points] == [2, 8, 32]
        assert ours.level == pytest.approx(0.98 * ours.points[-1][1])


@pytest.mark.parametrize(("gpu_hours", "unit"), [(0.0, "seconds of training"), (50.0, "GPU-hours")])
def test_figure_3_is_in_gpu_hours_where_there_were_gpus(tmp_path: Path, gpu_hours: float, unit: str):
    for k in (32, 8):
        write_run(tmp_path, sparse_uniform(32, k), train={"seconds": 10.0 * k, "gpu_hours": gpu_hours * k})
    (plot,) = figure3(FigureInputs(find_runs(tmp_path), PAPER))
    (panel,) = plot.panels
    assert panel.y == unit
    ours, published = panel.lines
    assert published.points == ((8.0, pytest.approx(0.87 * ours.points[-1][1]), None),)
