"""The workspace and the regions on W&B: what the panels name is what runs send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.report_runs import ALL, SPARSE, TOP, write_run
from support.wandb_files import of_kind, read_offline_run

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.report.collect import find_runs
from vrx.report.page.regions import COSTS, model_regions
from vrx.report.wandb_regions import COLUMNS, region_rows, strip_image
from vrx.report.wandb_run import CURVE, _flat_config
from vrx.report.wandb_workspace import make_workspace, read_template
from vrx.runs.train_summary import TrainSummary


def panels() -> list[dict]:
    return [panel for section in read_template()["sections"] for panel in section["panels"]]


def test_panels_name_metrics_and_keys_that_runs_send():
    sent = {"score/mean", "regions", "train/step", *(f"train/{name}" for name in CURVE)}
    sent |= {f"cost/{name}" for name in vars(TrainSummary())}
    assert {panel[key] for panel in panels() for key in ("metric", "x", "y") if key in panel} <= sent
    keys = {*read_template()["group_by"], *(panel["group_by"] for panel in panels() if "group_by" in panel)}
    run = RunConfig()
    assert keys <= _flat_config(run, Path(), []).keys() and "seed" not in keys


def test_the_template_becomes_a_workspace_with_all_of_its_panels():
    workspaces = pytest.importorskip("wandb_workspaces.workspaces", reason="pip install -e '.[reports]' installs it")
    from wandb_workspaces.reports import v2

    workspace = make_workspace(workspaces, v2, read_template(), entity="someone", project="vrx")
    assert sum(len(section.panels) for section in workspace.sections) == len(panels())
    spec = json.dumps(workspace._to_model().model_dump(mode="json", by_alias=True))
    assert all(name in spec for name in ("score/mean", "cost/seconds", "train/loss", "num_layers"))


def test_a_strip_is_tall_where_a_layer_was_tuned():
    image = strip_image((1,), 3)
    columns = [[image.getpixel((6 * layer + 2, y)) != (255, 255, 255) for y in range(24)] for layer in range(3)]
    assert list(map(sum, columns)) == [6, 24, 6]


def test_the_reports_run_has_the_regions_as_a_table_with_pictures(tmp_path: Path):
    for layers, skill in ((ALL, 0.9), (SPARSE, 0.8), (TOP, 0.3)):
        write_run(tmp_path, layers, columns=("gqa",), skill=skill)
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode = str(tmp_path), "offline"
    report(run)
    (file,) = (tmp_path / "report" / "wandb").glob("latest-run/files/media/table/regions*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == [*COLUMNS, *COSTS]
    expected = region_rows(model_regions(find_runs(tmp_path)))
    assert [[*row[:2], *row[3:]] for row in table["data"]] == [[*row[:2], *row[3:]] for row in expected]
    records = read_offline_run(tmp_path / "report")
    artifacts = [entry for record in of_kind(records, "artifact") for entry in record["manifest"]["contents"]]
    pictures = {Path(entry["path"]).name for entry in artifacts if entry["path"].startswith("media/images/")}
    assert len(pictures) >= len(expected) == 3
    keys = {key for record in of_kind(records, "history") for key in record["item"]}
    assert any(key.startswith("charts/cost_bunny-llama3-8b") for key in keys)
