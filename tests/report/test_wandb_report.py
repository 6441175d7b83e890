"""The report on W&B, read back from what an offline run leaves on disk; its page as blocks, without an account."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from report.test_report import ALL, PAPER, SPARSE, TOP, make
from report.test_wandb_run import read_back, values

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.report import heatmap, paper, paper_artifacts, plots, tables, wandb_report
from vrx.report.collect import find_runs, scorer
from vrx.runs import files


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dashboard") / "outputs"
    for layers, skill in ((ALL, 0.7), (SPARSE, 0.68), (TOP, 0.4)):
        make(root, layers, skill=skill)
    samples = [{"benchmark": "ocrvqa", "id": str(number)} for number in range(2)]
    told = {"samples": samples, "scores": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]}
    files.write_json(root / "score" / "tiny" / "all-3_100pct_seed0_0a" / heatmap.FILE, told)
    return root


def everything(root: Path) -> tuple[list[tables.Table], list[plots.Plot]]:
    found = find_runs(root)
    return paper_artifacts.all_tables(PAPER, found, scorer(found)), paper_artifacts.all_plots(PAPER, found)


def test_a_second_report_is_the_same_run_with_every_table_figure_and_the_page(runs: Path):
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode, run.wandb.tags = str(runs), "offline", ["mine"]
    made = []
    for _ in range(2):
        report(run)
        made.append(read_back(runs / "report"))
        time.sleep(1.1)  # offline folders are named by the second
    (start,) = values(made[0], "run")
    assert start["run_id"] == values(made[1], "run")[0]["run_id"]
    assert (start["job_type"], start["run_group"], start["tags"]) == ("report", "report", ["report", "mine"])
    keys = {key.removesuffix("._type") for row in values(made[0], "history") for key in row["item"]}
    found, drawn = everything(runs)
    assert {f"tables/{table.name}" for table in found} | {f"figures/{plot.name}" for plot in drawn} <= keys
    assert any(key.startswith("charts/") for key in keys) and "page" in keys
    assert "figures/figure5_tiny_all-3_100pct_seed0_0a" in keys
    assert any(record["type"] == "artifact" for record in made[0])
    told = next((runs / "report" / "wandb").glob("latest-run/files/media/table/tables/table1_*.table.json"))
    lines = {line[0]: line for line in json.loads(told.read_text())["data"]}
    table = next(table for table in found if table.name.startswith("table1"))
    row = next(row for row in table.rows if row.layers == SPARSE)
    ours = [row.cells[key].value for key in table.columns]
    assert lines[row.label][4 : 4 + len(ours)] == pytest.approx(ours)


def test_the_page_follows_the_paper(runs: Path):
    found, drawn = everything(runs)
    made = wandb_report.blocks(PAPER, found, drawn)
    assert made == wandb_report.blocks(PAPER, found, drawn)
    headings = [block.text for block in made if block.kind == "heading"]
    titles = {part.title for part in [*found, *drawn]}
    assert set(headings) == titles | {"The runs"} and len(headings) == len(found) + len(drawn) + 1
    order = [name for name in PAPER.artefacts for part in [*found, *drawn] if part.name.startswith(name)]
    assert sorted(order, key=list(PAPER.artefacts).index) == order
    assert [block.text for block in made if block.kind == "figure"] == [f"figures/{plot.name}" for plot in drawn]
    assert sum(block.kind == "markdown" for block in made) == 1 + len(found)


def test_a_chart_holds_the_points_of_its_lines():
    lines = (plots.Line("ours", ((1, 50.0, None), (8, 60.0, 1.0))), plots.Line("paper", ((8, 61.0, None),)))
    panel = plots.Panel("GQA", "layers tuned", "score (%)", lines)
    chart = wandb_report.chart_of(plots.Plot("figure2_m", "Figure 2", (panel,)), panel)
    assert sorted(map(tuple, chart.table.data)) == sorted([(1, "ours", 50.0), (8, "ours", 60.0), (8, "paper", 61.0)])


def test_a_heat_map_is_a_chart_with_a_row_a_sample_and_a_column_a_layer():
    heat = heatmap.Heat("figure5", "Figure 5", "tiny", (("a", "7"), ("b", "7")), ((0.1, 0.2), (0.3, 0.4)))
    chart = wandb_report.heat_chart_of(heat)
    assert chart.table.columns == ["x_axis", "y_axis", "values"]
    assert chart.table.data == [[0, "a 7", 0.1], [1, "a 7", 0.2], [0, "b 7", 0.3], [1, "b 7", 0.4]]


def test_every_block_is_one_of_wandbs(runs: Path):
    v2 = pytest.importorskip("wandb_workspaces.reports.v2", reason="pip install -e '.[reports]' brings it")
    made = wandb_report.blocks(paper.load(), *everything(runs))
    parts = wandb_report.page_parts(v2, made, entity="someone", project="vrx", run_name="report outputs")
    assert len(parts) == len(made) + 1
    page = v2.Report(project="vrx", entity="someone", title="report", blocks=parts)
    assert [block.text for block in page.blocks if isinstance(block, v2.H1)] == [
        block.text for block in made if block.kind == "heading"
    ]


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    wandb_report.save_page(None, tmp_path, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'vrx[reports]'" in line
