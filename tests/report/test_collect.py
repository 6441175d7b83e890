"""Which records of an output root the report uses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.report_runs import SPARSE, tables_of, write_run

from vrx.report.collect import find_runs
from vrx.runs.files import write_atomic


def test_an_invalid_record_is_skipped_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture):
    good = write_run(tmp_path, SPARSE)
    record = good.record.to_json()
    invalid: dict[str, Any] = {
        "corrupt": '{"run_id": ',
        "list": "[1, 2]",
        "foreign": '{"model": "mine", "accuracy": 0.5}',
        "percent": json.dumps({**record, "scores": {"gqa": {"value": 61.6, "stderr": 0.1, "num_samples": 9}}}),
        "nan": json.dumps({**record, "scores": {"gqa": {"value": float("nan"), "stderr": 0, "num_samples": 9}}}),
        "layers": json.dumps({**record, "layers": [40]}),
    }
    for name, text in invalid.items():
        write_atomic(tmp_path / "finetune" / "m" / name / "record.json", text)
    (tmp_path / "finetune" / "m" / "bytes").mkdir()
    (tmp_path / "finetune" / "m" / "bytes" / "record.json").write_bytes(b"\xff\xfe")
    assert [run.folder for run in find_runs(tmp_path)] == [good.folder]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(invalid) + 1
    for name in (*invalid, "bytes"):
        assert sum(f"{name}/record.json" in line for line in lines) == 1


def test_a_pruned_run_is_listed_but_in_no_table(tmp_path: Path):
    run = write_run(tmp_path, SPARSE)
    altered = dataclasses.replace(run.record, identity={**run.record.identity, "pruned": [3]})
    altered.write(run.folder / "record.json")
    (pruned,) = find_runs(tmp_path)
    assert pruned.pruned == (3,)
    assert tables_of(tmp_path, "table2") == []


def test_a_copied_run_counts_once(tmp_path: Path):
    run = write_run(tmp_path, SPARSE)
    shutil.copytree(run.folder, run.folder.with_name("copy"))
    assert len(find_runs(tmp_path)) == 1
