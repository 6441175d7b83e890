"""The report on W&B: a run with every table and figure in it, and a report page in the order of the paper."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from vrx.config.schema import RunConfig
from vrx.launch.logging import log
from vrx.report.figures.figure import Chart, Figure
from vrx.report.formats import render_markdown, row_label
from vrx.report.page.regions import ModelRegions
from vrx.report.paper import Paper
from vrx.report.tables import Table
from vrx.report.wandb_connection import open_run, read_run_file, wandb_environment, without_raising
from vrx.report.wandb_regions import region_values
from vrx.report.wandb_workspace import save_workspace
from vrx.runs.files import digest, read_json, write_json

if TYPE_CHECKING:
    import wandb

PAGE_FILE = "wandb_page.json"  # the address of the report page on W&B


@dataclass(frozen=True)
class Report:
    """A report: its tables and figures, their files by path, and the page as it may leave this machine."""

    paper: Paper
    tables: Sequence[Table]
    figures: Sequence[Figure]
    files: Mapping[Path, bytes]
    page: str
    regions: Sequence[ModelRegions] = ()


def send_report(run: RunConfig, folder: Path, report: Report) -> None:
    """Make the report's W&B run, the same one every time for an output root; online, its page too. Never raises."""
    if run.wandb.mode == "disabled":
        return
    with wandb_environment(folder):
        remote = without_raising("open a run for the report", lambda: _open(run, folder))
        if remote is None:
            return
        without_raising("send all of the report", lambda: _send(remote, folder, report))
        if not remote.settings._offline:
            page = page_blocks(report.paper, report.tables, report.figures)
            without_raising("save the report page", lambda: save_page(remote, folder, page))
            without_raising("save the workspace", lambda: save_workspace(remote, folder))
        without_raising("finish the report", remote.finish)


def _open(run: RunConfig, folder: Path) -> wandb.Run:
    run_file = read_run_file(folder, digest(["report", str(folder)])[:8])
    remote = open_run(
        run.wandb,
        folder,
        id=run_file.id,
        name=f"report {folder.parent.name}",
        group=run.wandb.group or "report",
        job_type="report",
        tags=["report", *run.wandb.tags],
        config={"job": "report", "output_root": str(folder.parent)},
    )
    run_file.save()
    return remote


def _send(remote: wandb.Run, folder: Path, report: Report) -> None:
    import wandb

    values: dict[str, object] = {f"tables/{table.name}": wandb_table(table) for table in report.tables}
    for figure in report.figures:
        png = report.files[folder / "figures" / f"{figure.name}.png"]
        values[f"figures/{figure.name}"] = wandb.Image(Image.open(io.BytesIO(png)), caption=figure.title)
        values |= {f"charts/{chart.name}": wandb_chart(chart) for chart in figure.charts()}
    values |= region_values(report.regions)
    values["page"] = wandb.Html(report.page, inject=False, data_is_not_path=True)
    remote.log(values)
    artifact = wandb.Artifact(f"report-{remote.id}", type="report")
    for path in report.files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    with artifact.new_file("index.html", encoding="utf-8") as file:
        file.write(report.page)
    remote.log_artifact(artifact)


def wandb_table(table: Table) -> wandb.Table:
    """A table in percent, with a column of ours for each benchmark, then one of the paper's where it prints any."""
    import wandb

    printed = [key for key in table.columns if any(row.cells[key].published is not None for row in table.rows)]
    names = [*table.columns.values(), *(f"{table.columns[key]}, paper" for key in printed)]
    rows = []
    for row in table.rows:
        layers = "" if row.layers is None else " ".join(map(str, row.layers))
        start = [row_label(row), layers, 100 * row.fraction, len(row.runs)]
        ours = [row.cells[key].value for key in table.columns]
        rows.append([*start, *ours, *(row.cells[key].published for key in printed)])
    return wandb.Table(columns=["row", "layers", "data", "seeds", *names], data=rows)  # type: ignore[arg-type]


def wandb_chart(chart: Chart) -> Any:
    """A chart of W&B's own kinds; a plain table for what is neither lines nor a heat map."""
    import wandb

    if chart.kind == "lines":
        lines: dict[str, list[tuple[str | int | float, str | int | float]]] = {}
        for x, name, y in chart.rows:
            lines.setdefault(str(name), []).append((x, y))
        xs, ys = ([[point[axis] for point in points] for points in lines.values()] for axis in (0, 1))
        return wandb.plot.line_series(xs, ys, keys=list(lines), title=chart.title, xname=chart.columns[0])
    rows = [list(row) for row in chart.rows]
    if chart.kind == "heat map":
        axes = ["x_axis", "y_axis", "values"]
        cells = wandb.Table(columns=axes, data=rows)  # type: ignore[arg-type]
        return wandb.plot_table("wandb/heatmap_no_text/v1", cells, {name: name for name in axes})
    return wandb.Table(columns=list(chart.columns), data=rows)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Block:
    """A piece of the report page: `text` is Markdown, a heading, or the key of a figure in the report's run."""

    kind: Literal["heading", "markdown", "figure", "runs"]
    text: str


def page_blocks(paper: Paper, tables: Sequence[Table], figures: Sequence[Figure]) -> list[Block]:
    """The report page from top to bottom: tables and figures in the order of the paper, then the runs."""
    introduction = (
        f"The tables and figures of *{paper.title}* with our numbers, and the paper's below them. Made by "
        "`vrx report`; the report's W&B run has the same as tables, files and one page."
    )
    blocks = [Block("markdown", introduction)]
    for name in paper.artifacts:
        for table in (table for table in tables if _belongs_to(table.name, name)):
            blocks += [Block("heading", table.title), Block("markdown", render_markdown(table))]
        for figure in (figure for figure in figures if _belongs_to(figure.name, name)):
            blocks += [Block("heading", figure.title), Block("figure", f"figures/{figure.name}")]
    return [*blocks, Block("heading", "The runs"), Block("runs", "")]


def _belongs_to(name: str, artifact: str) -> bool:
    return name == artifact or name.startswith(f"{artifact}_")


def save_page(remote: wandb.Run, folder: Path, blocks: Sequence[Block]) -> None:
    """Save the report page, over that of an earlier report. Needs an account and the `reports` extra."""
    try:
        from wandb_workspaces.reports import v2  # pyright: ignore[reportMissingImports]
    except ImportError:
        log("W&B: no report page was made, it needs: pip install 'vrx[reports]'")
        return
    page_file = folder / PAGE_FILE
    page = v2.Report.from_url(read_json(page_file)["url"]) if page_file.is_file() else None
    if page is None:
        page = v2.Report(project=remote.project, entity=remote.entity, title=remote.name or "vrx report")
    page.blocks = wandb_blocks(v2, blocks, entity=remote.entity, project=remote.project, run_name=remote.name)
    page.save()
    write_json(page_file, {"url": page.url})
    log(f"W&B report: {page.url}")


def wandb_blocks(v2: Any, blocks: Sequence[Block], *, entity: str, project: str, run_name: str | None) -> list[Any]:
    """The blocks as those of `wandb_workspaces.reports.v2`."""

    def panel_grid(panel: Any, **runset: Any) -> Any:
        return v2.PanelGrid(runsets=[v2.Runset(entity=entity, project=project, **runset)], panels=[panel])

    converted: list[Any] = [v2.TableOfContents()]
    for block in blocks:
        if block.kind == "heading":
            converted.append(v2.H1(block.text))
        elif block.kind == "markdown":
            converted.append(v2.MarkdownBlock(block.text))
        elif block.kind == "figure":
            browser = v2.MediaBrowser(media_keys=[block.text], num_columns=1, layout=v2.Layout(w=24, h=12))
            converted.append(panel_grid(browser, name=run_name, filters="Config('job') == 'report'"))
        else:
            curve = v2.LinePlot(x="train/step", y=["train/loss"], layout=v2.Layout(w=24, h=8))
            groups = ["config.model", "config.selector", "config.num_layers", "config.data_fraction"]
            converted.append(
                panel_grid(curve, name="fine-tunes", filters="Config('job') == 'finetune'", groupby=groups)
            )
    return converted
