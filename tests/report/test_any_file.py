"""No file stops the report: whatever a record or an answers file holds, it is used or left out by name."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mutations import mutated
from support.report_runs import ALL, PAPER, SPARSE, write_run

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.jobs.report.driver import report
from vrx.report.claims import judge_claims
from vrx.report.collect import find_runs
from vrx.report.figures.figure import FigureInputs
from vrx.report.page.render import PageContents, render_page
from vrx.report.paper_artifacts import all_figures, all_tables
from vrx.report.question_scores import question_scores
from vrx.runs.files import read_json
from vrx.runs.record import parse_record

COLUMNS = ("gqa", "mmbench")
BAD_RECORDS: dict[str, tuple[tuple[str, ...], Any]] = {  # the dotted key and what it holds
    "provenance null": (("provenance",), None),
    "selectors null": (("selectors",), None),
    "selectors numbers": (("selectors",), [1, 2]),
    "ten million layers": (("identity", "model", "num_layers"), 10_000_000),
    "NUL in a name": (("identity", "model", "name"), "a\0b"),
    "400 letters": (("identity", "model", "name"), "x" * 400),
    "surrogate": (("identity", "model", "name"), "\ud800"),
    "huge error": (("scores", "gqa", "stderr"), 10**400),
    "seed a list": (("identity", "seed"), [1]),
    "weights a list": (("identity", "weights"), [1]),
    "no data": (("identity", "data"), None),
    "seconds nan": (("train", "seconds"), float("nan")),
}
LEFT_ALONE = ("provenance null",)  # older records have none


def changed(record: Any, keys: tuple[str, ...], value: Any) -> str:
    """The record as JSON, with another value of one key."""
    record = copy.deepcopy(record)
    part = record
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return json.dumps(record)


def make_report(root: Path) -> None:
    run = RunConfig()
    run.runtime.output_root, run.wandb.mode = str(root), "disabled"
    report(run)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    for layers in (ALL, SPARSE):
        write_run(root, layers, columns=COLUMNS)
    return root


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record_is_left_out_and_named_and_the_rest_is_reported(
    good: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture
):
    root = Path(shutil.copytree(good, tmp_path / "outputs"))
    runs = find_runs(root)
    bad = root / "finetune" / "other" / "bad" / "record.json"
    bad.parent.mkdir(parents=True)
    record = read_json(runs[0].folder / "record.json")
    record["identity"]["lora"] = {"r": 3}
    bad.write_text(changed(record, *BAD_RECORDS[kind]), encoding="utf-8")
    make_report(root)
    is_left_out = f"left out of the report: {bad}: " in capsys.readouterr().err
    assert is_left_out == (kind not in LEFT_ALONE)
    assert (root / "report" / "index.html").stat().st_size > 0
    assert len(find_runs(root)) == len(runs) + (not is_left_out)


def test_where_every_record_is_bad_the_report_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture):
    bad = tmp_path / "finetune" / "m" / "bad" / "record.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("[" * 100_000, encoding="utf-8")
    make_report(tmp_path)
    assert f"left out of the report: {bad}: not valid JSON: nested too deep" in capsys.readouterr().err
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("name", ["/../../../../../ESC", "x\\input{evil}", "..", "a/b", "$\\foo$", "é"])
def test_files_of_any_model_lie_in_the_report_and_have_tame_labels(tmp_path: Path, name: str):
    root = tmp_path / "a" / "b" / "outputs"
    for layers in (ALL, SPARSE):
        run = write_run(root, layers, columns=PAPER.artifacts["figure2"].columns)
        record = read_json(run.folder / "record.json")
        record["identity"]["model"]["name"] = name
        (run.folder / "record.json").write_text(json.dumps(record))
    make_report(root)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(root)]
    assert outside == []
    tables = list((root / "report" / "tables").rglob("*.tex"))
    assert tables
    for table in tables:
        assert "input{evil}" not in table.read_text().rpartition(r"\label{")[2]


ANSWERS = {
    "list": lambda lines: ["[]", *lines[1:]],
    "nested": lambda lines: ["[" * 100_000, *lines[1:]],
    "header of another form": lambda lines: [json.dumps({"key": "k", "benchmark": [1]}), *lines[1:]],
    "metric of the past": lambda lines: [
        json.dumps({"key": "k", "benchmark": {"family": "short_answer", "metric": "no_longer_there"}}),
        *lines[1:],
    ],
    "metric a number": lambda lines: [json.dumps({"key": "k", "benchmark": {"metric": 5}}), *lines[1:]],
    "another metric": lambda lines: [
        json.dumps({"key": "k", "benchmark": {"family": "grounding", "metric": "refcocog_iou"}}),
        *lines[1:],
    ],
    "numbers for texts": lambda lines: [lines[0], '{"id": 1, "text": 2, "references": [3]}'],
    "references a text": lambda lines: [lines[0], '{"id": "1", "text": "2", "references": "3"}'],
    "surrogate": lambda lines: [lines[0], '{"id": "1", "text": "\\ud800", "references": ["3"]}'],
    "no references": lambda lines: [lines[0], '{"id": "1", "text": "2", "references": []}'],
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_of_another_form_do_not_stop_the_report(good: Path, tmp_path: Path, kind: str):
    root = Path(shutil.copytree(good, tmp_path / "outputs"))
    (answers,) = [run.folder / "answers" / "gqa.jsonl" for run in find_runs(root) if len(run.layers) == len(SPARSE)]
    answers.write_text("\n".join(ANSWERS[kind](answers.read_text().splitlines())) + "\n")
    make_report(root)
    assert (root / "report" / "index.html").is_file()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_record_is_read_or_refused_and_what_is_read_can_be_reported(good: Path, data: st.DataObject):
    runs = find_runs(good)
    record = data.draw(mutated(runs[0].record.to_json()))
    try:
        parsed = parse_record(json.loads(json.dumps(record)))
    except UserError:
        return
    runs = [type(runs[0])(runs[0].folder, parsed), *runs[1:]]
    tables = all_tables(PAPER, runs, question_scores(runs))
    figures = all_figures(FigureInputs(runs, PAPER, (good,)))
    pngs = {figure.name: b"" for figure in figures}
    contents = PageContents(PAPER, tables, figures, runs, judge_claims(PAPER, runs, question_scores(runs)), pngs)
    page = render_page(contents, path=good / "report.html").html
    assert all("/" not in thing.name and thing.name.encode() for thing in (*tables, *figures)) and page.encode()
