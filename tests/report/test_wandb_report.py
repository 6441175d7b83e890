"""The report on W&B, read back from what an offline run leaves on disk; its page as blocks, without an account."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from support.report_runs import ALL, PAPER, SPARSE, TOP, write_run
from support.wandb_files import of_kind, read_offline_run

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.report import wandb_report
from vrx.report.collect import find_runs
from vrx.report.figures.figure import Chart, Figure, FigureInputs
from vrx.report.figures.heat_map import HeatMap
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.paper_artifacts import all_figures, all_tables
from vrx.report.question_scores import question_scores
from vrx.report.tables import Table
from vrx.runs import files, importance_files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wandb_report") / "outputs"
    for layers, skill in ((ALL, 0.7), (SPARSE, 0.68), (TOP, 0.4)):
        write_run(root, layers, skill=skill)
    samples = [{"benchmark": "ocrvqa", "id": str(number)} for number in range(2)]
    content = {"samples": samples, "scores": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]}
    files.write_json(root / "score" / "tiny" / "all-3_100pct_seed0_0a" / importance_files.SAMPLE_SCORES_NAME, content)
    return root


def tables_and_figures(root: Path) -> tuple[list[Table], list[Figure]]:
    runs = find_runs(root)
    return all_tables(PAPER, runs, question_scores(runs)), all_figures(FigureInputs(runs, PAPER, (root,)))


def test_a_second_report_is_the_same_run_with_every_table_figure_and_the_page(root: Path):
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode, run.wandb.tags = str(root), "offline", ["mine"]
    reports = []
    for _ in range(2):
        report(run)
        reports.append(read_offline_run(root / "report"))
        time.sleep(1.1)  # offline folders are named by the second
    (start,) = of_kind(reports[0], "run")
    assert start["run_id"] == of_kind(reports[1], "run")[0]["run_id"]
    assert (start["job_type"], start["run_group"], start["tags"]) == ("report", "report", ["report", "mine"])
    keys = {key.removesuffix("._type") for row in of_kind(reports[0], "history") for key in row["item"]}
    tables, figures = tables_and_figures(root)
    assert {f"tables/{table.name}" for table in tables} | {f"figures/{figure.name}" for figure in figures} <= keys
    for chart in (chart for figure in figures for chart in figure.charts()):
        assert any(key.startswith(f"charts/{chart.name}") for key in keys)
    assert {"page", "figures/figure5_tiny_all-3_100pct_seed0_0a"} <= keys
    assert any(record["type"] == "artifact" for record in reports[0])
    file = next((root / "report" / "wandb").glob("latest-run/files/media/table/tables/table1_*.table.json"))
    lines = {line[0]: line for line in json.loads(file.read_text())["data"]}
    table = next(table for table in tables if table.name.startswith("table1"))
    row = next(row for row in table.rows if row.layers == SPARSE)
    ours = [row.cells[key].value for key in table.columns]
    assert lines[row.label][4 : 4 + len(ours)] == pytest.approx(ours)


@pytest.mark.parametrize("log_predictions", [False, True])
def test_the_page_on_wandb_has_predictions_only_where_asked_for(tmp_path: Path, log_predictions: bool):
    for layers in (ALL, SPARSE):
        write_run(tmp_path, layers, columns=("gqa",))
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode, run.wandb.log_predictions = str(tmp_path), "offline", log_predictions
    report(run)
    folder, marker = tmp_path / "report", b'id="compare"'
    assert marker in (folder / "index.html").read_bytes()
    sent = [path.read_bytes() for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert any(b"<title>vrx report" in content for content in sent)
    assert any(marker in content for content in sent) == log_predictions


def test_the_page_follows_the_paper(root: Path):
    tables, figures = tables_and_figures(root)
    blocks = wandb_report.page_blocks(PAPER, tables, figures)
    headings = [block.text for block in blocks if block.kind == "heading"]
    parts: list[Table | Figure] = [*tables, *figures]
    assert sorted(headings) == sorted([*(part.title for part in parts), "The runs"])
    order = [name for name in PAPER.artifacts for part in parts if part.name.startswith(name)]
    assert sorted(order, key=list(PAPER.artifacts).index) == order
    assert [block.text for block in blocks if block.kind == "figure"] == [
        f"figures/{figure.name}"
        for name in PAPER.artifacts
        for figure in figures
        if figure.name == name or figure.name.startswith(f"{name}_")
    ]
    assert sum(block.kind == "markdown" for block in blocks) == 1 + len(tables)


def test_a_chart_holds_the_points_of_its_lines():
    lines = (Line("ours", ((1, 50.0, None), (8, 60.0, 1.0))), Line("paper", ((8, 61.0, None),)))
    plot = LinePlot("figure2_m", "Figure 2", (Panel("GQA", "layers tuned", "score (%)", lines),))
    chart = wandb_report.wandb_chart(plot.charts()[0])
    assert sorted(map(tuple, chart.table.data)) == sorted([(1, "ours", 50.0), (8, "ours", 60.0), (8, "paper", 61.0)])


def test_a_heat_map_is_a_chart_with_a_row_a_sample_and_a_column_a_layer():
    samples, values = (("a", "7"), ("b", "7")), ((0.1, 0.2), (0.3, 0.4))
    heat_map = HeatMap("figure5", "Figure 5", "image attention", samples, values)
    chart = wandb_report.wandb_chart(heat_map.charts()[0])
    assert chart.table.columns == ["x_axis", "y_axis", "values"]
    assert chart.table.data == [[0, "a 7", 0.1], [1, "a 7", 0.2], [0, "b 7", 0.3], [1, "b 7", 0.4]]


def test_a_figure_of_another_kind_is_a_plain_table():
    chart = wandb_report.wandb_chart(Chart("figure9", "Figure 9", "table", ("layer", "share"), ((0, 0.5), (1, 0.25))))
    assert chart.columns == ["layer", "share"]
    assert chart.data == [[0, 0.5], [1, 0.25]]


def test_every_block_becomes_one_of_wandbs(root: Path):
    v2 = pytest.importorskip("wandb_workspaces.reports.v2", reason="pip install -e '.[reports]' installs it")
    blocks = wandb_report.page_blocks(PAPER, *tables_and_figures(root))
    converted = wandb_report.wandb_blocks(v2, blocks, entity="someone", project="vrx", run_name="report outputs")
    assert len(converted) == len(blocks) + 1
    page = v2.Report(project="vrx", entity="someone", title="report", blocks=converted)
    assert [block.text for block in page.blocks if isinstance(block, v2.H1)] == [
        block.text for block in blocks if block.kind == "heading"
    ]


def test_without_the_library_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    wandb_report.save_page(None, tmp_path, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'vrx[reports]'" in line
