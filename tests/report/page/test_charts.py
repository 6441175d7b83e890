"""Charts of the page: the numbers of the figures, and nothing that JSON has no number for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.report_runs import ALL, SPARSE, write_run

from vrx.report.figures.heat_map import HeatMap
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.figures.strip_plot import StripPlot, StripRow
from vrx.report.page.charts import MAX_CELLS, Point, charts_of, thinned
from vrx.report.page.training_curves import FEW_POINTS, MAX_POINTS, curve_charts
from vrx.report.training_time import read_train_log


def test_a_line_plot_gives_a_chart_a_panel_with_its_points():
    lines = (
        Line("ours", ((8.0, 61.234567, 0.5), (32.0, 63.0, None)), level=62.0),
        Line("paper", ((8.0, 62.0, None),), is_papers=True),
    )
    panels = (Panel("GQA", "layers tuned", "score (%)", lines), Panel("cut", "x", "y", lines[:1], marks=("a",) * 33))
    first, second = (chart.to_json() for chart in charts_of(LinePlot("n", "t", panels)))
    assert first["x"]["scale"] == "log2" and second["x"]["scale"] == "linear"
    ours, paper = first["series"]
    assert ours["points"] == [[8.0, 61.235, 0.5, "8"], [32.0, 63.0, None, "32"]] and ours["level"] == 62.0
    assert paper["hollow"] and paper["colour"] == -1
    assert second["series"][0]["points"][0][3] == "a"


def test_a_strip_plot_has_a_row_a_selector_and_errors_along_x():
    (chart,) = charts_of(StripPlot("n", "t", "average", (1.0, 2.0, 4.0), (StripRow("top", 3.0, 0.1),)))
    content = chart.to_json()
    assert content["errors"] == "x" and content["y"]["marks"] == ["3 random", "top"]
    assert content["series"][1]["points"] == [[3.0, 1.0, 0.1, "top, percentile 67"]]


def test_a_heat_map_keeps_its_values_unless_there_are_too_many():
    (chart,) = charts_of(HeatMap("n", "t", "v", (("gqa", "1"), ("gqa", "2")), ((0.1, 0.2), (0.3, 0.4))))
    assert chart.to_json()["values"] == [[0.1, 0.2], [0.3, 0.4]] and chart.to_json()["rows"] == ["gqa 1", "gqa 2"]
    number = MAX_CELLS // 2 + 1
    assert charts_of(HeatMap("n", "t", "v", (("gqa", "1"),) * number, ((0.1, 0.2),) * number)) == []


def test_a_layer_without_a_value_is_null_in_a_heat_map():
    (chart,) = charts_of(HeatMap("n", "t", "v", (("gqa", "1"), ("gqa", "2")), ((None, 0.2), (None, 0.4))))
    assert chart.to_json()["values"] == [[None, 0.2], [None, 0.4]]
    assert (chart.to_json()["low"], chart.to_json()["high"]) == (0.2, 0.4)


def test_thinned_points_are_means_of_neighbours():
    points = [Point(float(x), 2.0 * x) for x in range(100)]
    assert thinned(points, 100) == tuple(points)
    few = thinned(points, 10)
    assert [point.x for point in few[:2]] == [4.5, 14.5] and all(point.y == 2 * point.x for point in few)


def test_curves_of_the_same_layers_share_name_and_colour(tmp_path: Path):
    runs = [
        write_run(tmp_path, layers, seed=seed, columns=("gqa",))
        for layers, seed in ((ALL, 0), (SPARSE, 0), (SPARSE, 1))
    ]
    for run in runs:
        rows = [{"step": step, "loss": 1.0 / (step + 1), "grad_norm": None} for step in range(3 * MAX_POINTS)]
        (run.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9')
    assert len(read_train_log(runs[0].folder)) == 3 * MAX_POINTS
    means, chart = curve_charts(runs)
    assert [each.name for each in means.series] == ["all 32 layers", "8 layers"]
    alone, both = (each.points for each in means.series)
    assert len(both) == FEW_POINTS and both == alone  # all three logs are equal
    assert [(each.name, each.colour, len(each.points)) for each in chart.series] == [
        ("all 32 layers", 0, MAX_POINTS),
        ("8 layers", 1, MAX_POINTS),
        ("8 layers", 1, MAX_POINTS),
    ]


@pytest.mark.parametrize("line", ["[]", '{"step": 1e999}', '{"step": "a"}', "[" * 100_000, '{"step": 1, "loss": NaN}'])
def test_a_log_of_another_form_has_no_curve(tmp_path: Path, line: str):
    run = write_run(tmp_path, SPARSE, columns=("gqa",))
    (run.folder / "train.jsonl").write_text(f"{line}\n{line}\n")
    assert curve_charts([run]) == []
