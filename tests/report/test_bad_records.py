"""A record that is cut, foreign or of another version: told by name where it matters, passed over where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.composing import finished

from vrx.runs import record

IDENTITY = {"model": {"name": "m", "num_layers": 2}, "train": {"lr": 1}, "data": {"fraction": 1.0}, "layers": [0, 1]}
RECORD = {
    "run_id": "abcd1234",
    "identity": IDENTITY,
    "layers": [0, 1],
    "train": {"seconds": 10.0},
    "scores": {"gqa": {"value": 0.5, "stderr": 0.1, "num_samples": 4, "metrics": {}}},
    "provenance": {},
}
BAD: dict[str, str] = {
    "cut": json.dumps(RECORD)[:40],
    "empty": "",
    "another program's": json.dumps({"version": 3}),
    "a list": "[1, 2]",
    "without scores": json.dumps({key: value for key, value in RECORD.items() if key != "scores"}),
    "of scores without errors": json.dumps(RECORD | {"scores": {"gqa": {"value": 0.5}}}),
    "of scores alone": json.dumps(RECORD | {"scores": {"gqa": 0.5}}),
    "of a model without layers": json.dumps(RECORD | {"identity": {**IDENTITY, "model": {}}}),
    "of training by name": json.dumps(RECORD | {"train": "yes"}),
}
EVALUATED = ("job=evaluate", "benchmark=tiny_gqa", "eval.limit=2")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the untouched LVLM has been evaluated."""
    return finished(tmp_path_factory.mktemp("evaluated"), *EVALUATED)


def put(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(content)
    return folder / "record.json"


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_record_is_refused_in_one_line_by_name(tmp_path: Path, kind: str):
    path = put(tmp_path / "run", BAD[kind])
    with pytest.raises(ValueError) as caught:
        record.read_record(path)
    assert str(caught.value).startswith(f"{path}: not ") and "\n" not in str(caught.value)


def test_what_another_version_added_stays(tmp_path: Path):
    told = RECORD | {"later": {"more": 1}}
    later = record.read_record(put(tmp_path / "run", json.dumps(told))).to_json()
    assert later["later"] == {"more": 1}


def test_bad_neighbours_are_passed_over(tmp_path: Path):
    for number, content in enumerate(BAD.values()):
        put(tmp_path / f"bad{number}", content)
    (tmp_path / "folder" / "record.json").mkdir(parents=True)
    put(tmp_path / "good", json.dumps(RECORD))
    mine = {**RECORD, "layers": [0], "identity": {**IDENTITY, "layers": [0]}}
    put(tmp_path / "untimed", json.dumps(mine | {"train": {}}))
    assert record.typical_seconds(tmp_path / "new", IDENTITY) == 10.0
    assert record.all_layers_record(tmp_path / "new", record.parse_record(mine)) == record.parse_record(RECORD)
    assert record.typical_seconds(tmp_path / "bad0" / "none", IDENTITY) is None


@pytest.mark.parametrize("kind", ["cut", "another program's"])
def test_a_run_with_a_bad_record_is_measured_again_from_its_answers(
    evaluated: Path, vrx: Callable[..., Any], kind: str
):
    (path,) = evaluated.glob("outputs/evaluate/tiny/*/record.json")
    before, answers = json.loads(path.read_text()), path.parent / "answers" / "tiny_gqa.jsonl"
    made = answers.stat().st_mtime_ns
    path.write_text(BAD[kind])
    told = vrx(*EVALUATED, cwd=evaluated)
    assert told.returncode == 0 and f"{path}: not " in told.stderr and "Traceback" not in told.stderr
    assert json.loads(path.read_text()) == before and answers.stat().st_mtime_ns == made
    assert path.with_name("record.json.broken").read_text() == BAD[kind]


def test_a_run_named_by_a_bad_record_is_refused(vrx: Callable[..., Any], tmp_path: Path):
    path = put(tmp_path / "run", BAD["without scores"])
    told = vrx("job=evaluate", f"job.run={path.parent}", "benchmark=tiny_gqa")
    assert told.returncode == 2 and f"vrx: {path}: not a run's record" in told.stderr
