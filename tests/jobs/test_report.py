"""`vrx report`: which files it writes, and what it prints."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from support.report_runs import ALL, BUNNY, SPARSE, write_run

from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.runs.files import write_atomic


def test_every_table_and_figure_is_a_file_and_a_second_report_is_equal(tmp_path: Path):
    for layers in (ALL, SPARSE):
        write_run(tmp_path, layers)
    first = report_files(tmp_path)
    tables = [f"tables/{name}_{BUNNY}" for name in ("table1", "table2")]
    figures = [f"figures/{name}" for name in (f"figure2_{BUNNY}", "figure3")]
    expected = {f"{table}.{extension}" for table in tables for extension in ("md", "tex", "csv")}
    expected |= {f"{figure}.{extension}" for figure in figures for extension in ("png", "pdf")}
    assert {*expected, "index.html"} <= set(first)
    assert not [name for name in first if "partial" in name]
    assert report_files(tmp_path) == first


def test_tables_and_figures_of_removed_runs_are_removed(tmp_path: Path):
    write_run(tmp_path, ALL)
    sparse = write_run(tmp_path, SPARSE)
    assert any("tables" in name for name in report_files(tmp_path))
    shutil.rmtree(sparse.folder)
    assert not any("tables" in name for name in report_files(tmp_path))


def report_files(root: Path) -> dict[str, bytes]:
    """The files of a new report by their path."""
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode = str(root), "disabled"
    report(run)
    folder = root / "report"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_records_the_command_says_what_to_run(vrx: Callable[..., subprocess.CompletedProcess]):
    result = vrx("job=report")
    assert result.returncode == 2
    assert result.stderr.startswith("vrx: runtime.output_root=outputs: contains no record")


def test_the_command_prints_the_page_and_names_an_unreadable_record(
    tmp_path: Path, vrx: Callable[..., subprocess.CompletedProcess]
):
    for layers in (ALL, SPARSE):
        write_run(tmp_path / "outputs", layers)
    write_atomic(tmp_path / "outputs" / "finetune" / "m" / "broken" / "record.json", "{")
    result = vrx("job=report")
    assert result.returncode == 0
    index = tmp_path / "outputs" / "report" / "index.html"
    assert result.stdout == f"report: {index}\n"
    assert index.is_file()
    assert "broken/record.json: not valid JSON" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_files_that_no_report_wrote_stay(tmp_path: Path):
    write_run(tmp_path, ALL)
    mine = tmp_path / "report" / "tables" / "mine.csv"
    write_atomic(mine, "1,2")
    report_files(tmp_path)
    report_files(tmp_path)
    assert mine.read_text() == "1,2"
