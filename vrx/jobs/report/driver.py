"""`vrx report`: every table and figure from the existing records, as files and as one page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.launch.logging import log
from vrx.report import wandb_report
from vrx.report.calibration import calibrate, calibration_as_markdown
from vrx.report.claims import claims_as_markdown, judge_claims
from vrx.report.collect import Run, find_runs, record_files
from vrx.report.figures.figure import FILE_FORMATS, Figure, FigureInputs
from vrx.report.formats import RENDERERS
from vrx.report.markdown_blocks import insert_blocks, markdown_blocks
from vrx.report.page.regions import model_regions
from vrx.report.page.render import PageContents, render_page
from vrx.report.paper import load_paper
from vrx.report.paper_artifacts import FIGURES, TABLES, all_figures, all_tables
from vrx.report.question_scores import question_scores
from vrx.report.results_copy import copy_results
from vrx.report.tables import Table
from vrx.runs.files import read_json, write_atomic, write_json

MANIFEST = ".files.json"  # in the report's folder: the files beside the page that the last report wrote


def report(run: RunConfig) -> None:
    """Write `<runtime.output_root>/report/`: tables, figures, and `index.html`, which is written last."""
    root = run.runtime.output_path
    results = run.runtime.results_paths
    runs = find_runs(root, *results)
    if not record_files(root, *results):
        raise UserError(f"runtime.output_root={run.runtime.output_root}: contains no record; run first: vrx")
    paper, folder, scores = load_paper(), root / "report", question_scores(runs)
    tables = all_tables(paper, runs, scores)
    figures = all_figures(FigureInputs(runs, paper, (root, *results)))
    claims = judge_claims(paper, runs, scores)
    files = {
        **_table_files(folder / "tables", tables),
        **{folder / "tables" / f"{name}.md": text.encode() for name, text in claims_as_markdown(claims).items()},
        **_calibration_file(folder / "tables", runs),
        **_figure_files(folder / "figures", figures),
    }
    pngs = {figure.name: files[folder / "figures" / f"{figure.name}.png"] for figure in figures}
    artifacts = list(dict.fromkeys([*TABLES, *FIGURES]))
    contents = PageContents(paper, tables, figures, runs, claims, pngs, (root, *results), artifacts)
    index = folder / "index.html"
    for path, content in files.items():
        write_atomic(path, content)
    page = render_page(contents, path=index)
    beside = {folder / name: content for name, content in page.files.items()}
    for path, content in beside.items():
        write_atomic(path, content)
    _remove_other_files(folder, {*files, *beside})
    write_json(folder / MANIFEST, sorted(path.relative_to(folder).as_posix() for path in (*files, *beside)))
    write_atomic(index, page.html)
    if beside or not run.wandb.log_predictions:  # W&B takes one file
        page = render_page(dataclasses.replace(contents, with_predictions=False), path=index)
    sent = wandb_report.Report(paper, tables, figures, files, page.html, model_regions(runs))
    wandb_report.send_report(run, folder, sent)
    if run.report is not None and run.report.copy_to is not None:
        num_copied = copy_results(root, Path(run.report.copy_to))
        log(f"{num_copied} runs copied without weights to {run.report.copy_to}")
    if run.report is not None and run.report.insert_into:
        blocks = markdown_blocks(tables, claims, figures)
        for path in map(Path, run.report.insert_into):
            _insert_into(path, blocks)
    log(f"records: {len(runs)}, tables: {len(tables)}, figures: {len(figures)}")
    print(f"report: {index}")


def _table_files(folder: Path, tables: list[Table]) -> dict[Path, bytes]:
    return {
        folder / f"{table.name}.{extension}": render(table).encode()
        for table in tables
        for extension, render in RENDERERS.items()
    }


def _insert_into(path: Path, blocks: dict[str, str]) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"report.insert_into: {path}: cannot be read: {error}") from None
    write_atomic(path, insert_blocks(text, blocks, source=f"report.insert_into: {path}").encode())


def _calibration_file(folder: Path, runs: list[Run]) -> dict[Path, bytes]:
    return {folder / "calibration.md": calibration_as_markdown(runs).encode()} if calibrate(runs) else {}


def _figure_files(folder: Path, figures: list[Figure]) -> dict[Path, bytes]:
    return {
        folder / f"{figure.name}.{file_format}": figure.draw(file_format)
        for figure in figures
        for file_format in FILE_FORMATS
    }


def _remove_other_files(folder: Path, written: set[Path]) -> None:
    """Remove what an earlier report wrote beside its page, of runs that no longer exist; nobody else's files."""
    try:
        names = read_json(folder / MANIFEST)
    except (OSError, UserError):
        return
    earlier = set(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else set()
    for path in (path for name in ("tables", "figures", "pictures") for path in (folder / name).glob("*")):
        if path not in written and path.relative_to(folder).as_posix() in earlier:
            path.unlink()
