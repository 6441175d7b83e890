"""`vrx job=report`: every table and figure from the records there are, as files and as one page."""

from __future__ import annotations

from pathlib import Path

from vrx import dashboard, heatmap, paper, plots
from vrx.config import RunConfig
from vrx.distributed import log
from vrx.records import write_atomic
from vrx.report import artefacts, comma_separated, latex, markdown, page
from vrx.report.predictions import galleries
from vrx.report.runs import find, scorer

RENDERERS = {"md": markdown.render, "tex": latex.render, "csv": comma_separated.render}


def report(run: RunConfig) -> None:
    """Write `<runtime.output_root>/report/`: tables, figures, and `index.html`, which is written last."""
    root = Path(run.runtime.output_root).absolute()
    runs = find(root)
    if not runs:
        raise FileNotFoundError(f"runtime.output_root={run.runtime.output_root}: holds no record to report; run: vrx")
    told, folder, scores = paper.load(), root / "report", scorer(runs)
    tables, drawings = artefacts.all_tables(told, runs, scores), artefacts.all_plots(told, runs)
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
    files[index] = page.render(told, tables, pictures, runs, galleries(runs), place=index)  # type: ignore[arg-type]
    for path, content in files.items():
        write_atomic(path, content)
    for path in [*(folder / "tables").glob("*"), *(folder / "figures").glob("*")]:
        if path not in files and path.suffix[1:] in (*RENDERERS, "png", "pdf"):
            path.unlink()  # of runs that are gone
    dashboard.send(run, folder, told, tables, drawings, heats, files)
    log(f"{len(runs)} records, {len(tables)} tables, {len(pictures)} figures")
    print(f"report: {index}")
