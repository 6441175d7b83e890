"""`vrx job=report`: every table and figure from the records there are, as files and as one page."""

from __future__ import annotations

from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.launch.logging import log
from vrx.report import formats, heatmap, html_page, paper, paper_artifacts, plots, wandb_report
from vrx.report.collect import find_runs, scorer
from vrx.report.prediction_samples import galleries
from vrx.runs.files import write_atomic

RENDERERS = {"md": formats.render_markdown, "tex": formats.render_latex, "csv": formats.render_csv}


def report(run: RunConfig) -> None:
    """Write `<runtime.output_root>/report/`: tables, figures, and `index.html`, which is written last."""
    root = Path(run.runtime.output_root).absolute()
    runs = find_runs(root)
    if not runs:
        raise UserError(f"runtime.output_root={run.runtime.output_root}: holds no record to report; run: vrx")
    told, folder, scores = paper.load(), root / "report", scorer(runs)
    tables, drawings = paper_artifacts.all_tables(told, runs, scores), paper_artifacts.all_plots(told, runs)
    heats = heatmap.find(root, told)
    files: dict[Path, str | bytes] = {}
    for table in tables:
        files |= {folder / "tables" / f"{table.name}.{form}": render(table) for form, render in RENDERERS.items()}
    for plot in drawings:
        files |= {folder / "figures" / f"{plot.name}.{form}": plots.draw(plot, form) for form in ("png", "pdf")}
    for heat in heats:
        files |= {folder / "figures" / f"{heat.name}.{form}": heatmap.draw(heat, form) for form in ("png", "pdf")}
    drawn = [(one.name, one.title) for one in (*drawings, *heats)]
    pictures = [(name, title, files[folder / "figures" / f"{name}.png"]) for name, title in drawn]
    index = folder / "index.html"
    files[index] = html_page.render_page(told, tables, pictures, runs, galleries(runs), place=index)  # type: ignore[arg-type]
    for path, content in files.items():
        write_atomic(path, content)
    for path in [*(folder / "tables").glob("*"), *(folder / "figures").glob("*")]:
        if path not in files and path.suffix[1:] in (*RENDERERS, "png", "pdf"):
            path.unlink()  # of runs that are gone
    wandb_report.send(run, folder, told, tables, drawings, heats, files)
    log(f"{len(runs)} records, {len(tables)} tables, {len(pictures)} figures")
    print(f"report: {index}")
