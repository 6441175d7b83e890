"""The report on W&B: a run with every table and figure in it, and a report page laid out like the paper."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from vrx.config.schema import RunConfig
from vrx.launch.logging import log
from vrx.report import formats
from vrx.report.heatmap import Heat, as_rows
from vrx.report.paper import Paper
from vrx.report.plots import Panel, Plot
from vrx.report.tables import Table
from vrx.report.wandb_run import open_run, quietly
from vrx.runs.files import digest, read_json, write_json


@dataclass(frozen=True)
class Block:
    """A piece of the report page: `text` is Markdown, a heading, or the key of a figure in the report's run."""

    kind: Literal["heading", "markdown", "figure", "runs"]
    text: str


def blocks(paper: Paper, tables: Sequence[Table], plots: Sequence[Plot | Heat]) -> list[Block]:
    """The report page from top to bottom: the paper's artefacts in its order, then the runs behind them."""
    found = [
        Block(
            "markdown",
            f"Every table and figure of *{paper.title}* that there are runs of: ours, and under it what the paper "
            "prints. Made by `vrx job=report`; the report's run holds the same as tables, files and one page.",
        )
    ]
    for name in paper.artefacts:
        for table in (table for table in tables if _is_of(table.name, name)):
            found += [Block("heading", table.title), Block("markdown", formats.render_markdown(table))]
        for plot in (plot for plot in plots if _is_of(plot.name, name)):
            found += [Block("heading", plot.title), Block("figure", f"figures/{plot.name}")]
    return [*found, Block("heading", "The runs"), Block("runs", "")]


def _is_of(name: str, artefact: str) -> bool:
    return name == artefact or name.startswith(f"{artefact}_")


def send(
    run: RunConfig,
    folder: Path,
    paper: Paper,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    heats: Sequence[Heat],
    files: Mapping[Path, Any],
) -> None:
    """Make the report's W&B run, the same one every time for an output root; online, its page too. Never raises."""
    if run.wandb.mode == "disabled":
        return
    remote = quietly("took no report", lambda: _open(run, folder))
    if remote is not None:
        quietly("took not all of the report", lambda: _fill(remote, folder, tables, plots, heats, files))
        if not remote.settings._offline:
            quietly("took no report page", lambda: save_page(remote, folder, blocks(paper, tables, [*plots, *heats])))
        quietly("did not finish the report", remote.finish)


def _open(run: RunConfig, folder: Path) -> Any:
    name = f"report {folder.parent.name}"
    return open_run(
        run.wandb,
        folder,
        id=digest(["report", str(folder)])[:8],
        name=name,
        group=run.wandb.group or "report",
        job_type="report",
        tags=["report", *run.wandb.tags],
        config={"job": "report", "output_root": str(folder.parent)},
    )


def _fill(
    remote: Any,
    folder: Path,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    heats: Sequence[Heat],
    files: Mapping[Path, str | bytes],
) -> None:
    import wandb

    told: dict[str, Any] = {f"tables/{table.name}": table_of(table) for table in tables}
    for drawn in (*plots, *heats):
        picture = files[folder / "figures" / f"{drawn.name}.png"]
        assert isinstance(picture, bytes)
        told[f"figures/{drawn.name}"] = wandb.Image(Image.open(io.BytesIO(picture)), caption=drawn.title)
    told |= {f"charts/{heat.name}": heat_chart_of(heat) for heat in heats}
    for plot in plots:
        for number, panel in enumerate(plot.panels, start=1):
            told[f"charts/{plot.name}_{number}"] = chart_of(plot, panel)
    told["page"] = wandb.Html(folder / "index.html", inject=False)
    remote.log(told)
    artifact = wandb.Artifact(f"report-{remote.id}", type="report")
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    remote.log_artifact(artifact)


def table_of(table: Table) -> Any:
    """A table as W&B's, a row each, in percent: ours, and where the paper prints a number that beside it."""
    import wandb

    printed = [key for key in table.columns if any(row.cells[key].published is not None for row in table.rows)]
    columns = [
        "row",
        "layers",
        "data",
        "seeds",
        *table.columns.values(),
        *(f"{table.columns[k]}, paper" for k in printed),
    ]
    rows = []
    for row in table.rows:
        layers = "" if row.layers is None else " ".join(map(str, row.layers))
        start = [formats.label(row), layers, 100 * row.fraction, len(row.runs)]
        ours = [row.cells[key].value for key in table.columns]
        rows.append([*start, *ours, *(row.cells[key].published for key in printed)])
    return wandb.Table(columns=columns, data=rows)  # type: ignore[arg-type]


def chart_of(plot: Plot, panel: Panel) -> Any:
    """A panel as a chart of W&B's own, a line each."""
    import wandb

    xs = [[x for x, _, _ in line.points] for line in panel.lines]
    ys = [[y for _, y, _ in line.points] for line in panel.lines]
    title = f"{plot.title}: {panel.title}, {panel.y}"
    return wandb.plot.line_series(xs, ys, keys=[line.name for line in panel.lines], title=title, xname=panel.x)


def heat_chart_of(heat: Heat) -> Any:
    """A heat map as a chart of W&B's own, layers from left to right, a row a sample."""
    import wandb

    _, rows = as_rows(heat)
    cells = wandb.Table(
        columns=["x_axis", "y_axis", "values"],  # type: ignore[arg-type]
        data=[[layer, f"{benchmark} {sample}", value] for benchmark, sample, layer, value in rows],
    )
    fields = {name: name for name in ("x_axis", "y_axis", "values")}
    return wandb.plot_table("wandb/heatmap_no_text/v1", cells, fields)


def save_page(remote: Any, folder: Path, found: Sequence[Block]) -> None:
    """Save the report page, over that of an earlier report; it is the one thing here that needs an account."""
    try:
        from wandb_workspaces.reports import v2  # pyright: ignore[reportMissingImports]
    except ImportError:
        log("W&B: a report page besides the report's run takes: pip install 'vrx[reports]'")
        return
    place = folder / "wandb_page.json"
    parts = page_parts(v2, found, entity=remote.entity, project=remote.project, run_name=remote.name)
    page = v2.Report.from_url(read_json(place)["url"]) if place.is_file() else None
    if page is None:
        page = v2.Report(project=remote.project, entity=remote.entity, title=remote.name)
    page.blocks = parts
    page.save()
    write_json(place, {"url": page.url})
    log(f"W&B report: {page.url}")


def page_parts(v2: Any, found: Sequence[Block], *, entity: str, project: str, run_name: str) -> list[Any]:
    """The blocks as those of `wandb_workspaces.reports.v2`."""

    def panels(*those: Any, **choice: Any) -> Any:
        return v2.PanelGrid(runsets=[v2.Runset(entity=entity, project=project, **choice)], panels=list(those))

    parts: list[Any] = [v2.TableOfContents()]
    for block in found:
        if block.kind == "heading":
            parts.append(v2.H1(block.text))
        elif block.kind == "markdown":
            parts.append(v2.MarkdownBlock(block.text))
        elif block.kind == "figure":
            browser = v2.MediaBrowser(media_keys=[block.text], num_columns=1, layout=v2.Layout(w=24, h=12))
            parts.append(panels(browser, name=run_name, filters="Config('job') == 'report'"))
        else:
            curve = v2.LinePlot(x="train/step", y=["train/loss"], layout=v2.Layout(w=24, h=8))
            groups = ["config.model", "config.selector", "config.num_layers", "config.data_fraction"]
            parts.append(panels(curve, name="fine-tunes", filters="Config('job') == 'finetune'", groupby=groups))
    return parts
