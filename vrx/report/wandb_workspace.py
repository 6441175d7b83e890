"""The W&B workspace: panels that compare runs, made from `wandb_workspace.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vrx.config.paths import PACKAGE
from vrx.launch.logging import log
from vrx.runs.files import write_json

if TYPE_CHECKING:
    import wandb

TEMPLATE = PACKAGE / "report" / "wandb_workspace.yaml"
FILE = "wandb_workspace.json"  # in the report's folder: the address of the saved workspace
SPREAD = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def read_template(path: Path = TEMPLATE) -> dict[str, Any]:
    """The sections and panels of the workspace, as in the file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def save_workspace(remote: wandb.Run, folder: Path) -> None:
    """Save the workspace in the project of the report's run, once for an output root; `folder` is the report's.

    It needs an account and the `reports` extra. What was changed on W&B since stays.
    """
    if (folder / FILE).is_file():
        return
    try:
        from wandb_workspaces import workspaces  # pyright: ignore[reportMissingImports]
        from wandb_workspaces.reports import v2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return  # the report page has said so
    workspace = make_workspace(workspaces, v2, read_template(), entity=remote.entity, project=remote.project)
    workspace.save()
    write_json(folder / FILE, {"url": workspace.url})
    log(f"W&B workspace: {workspace.url}")


def make_workspace(workspaces: Any, v2: Any, template: dict[str, Any], *, entity: str, project: str) -> Any:
    """The workspace of a template; the two modules are those of the library `wandb_workspaces`."""
    sections = [
        workspaces.Section(
            name=section["name"], is_open=True, panels=[_panel(v2, panel) for panel in section["panels"]]
        )
        for section in template["sections"]
    ]
    groups = [workspaces.Config(key) for key in template["group_by"]]
    runs = workspaces.RunsetSettings(groupby=groups)
    return workspaces.Workspace(
        entity=entity, project=project, name=template["name"], sections=sections, runset_settings=runs
    )


def _panel(v2: Any, panel: dict[str, Any]) -> Any:
    kind = panel["kind"]
    if kind == "bars":
        grouped = v2.Config(panel["group_by"])
        return v2.BarPlot(
            title=panel["title"], metrics=[v2.SummaryMetric(panel["metric"])], groupby=grouped, aggregate=True, **SPREAD
        )
    if kind == "scatter":
        axes = {axis: v2.SummaryMetric(panel[axis]) for axis in ("x", "y")}
        return v2.ScatterPlot(title=panel["title"], running_ymax=True, **axes)
    if kind == "lines":
        return v2.LinePlot(
            title=panel["title"], x=v2.Metric(panel["x"]), y=[v2.Metric(panel["metric"])], aggregate=True, **SPREAD
        )
    assert kind == "table", f"{TEMPLATE}: kind: {kind}"
    return v2.WeavePanelSummaryTable(table_name=panel["metric"])
