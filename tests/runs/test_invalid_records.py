"""Records that are cut, foreign or of another version: refused by name, or skipped where they do not matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.composing import finished

from vrx.runs import neighbours, record

IDENTITY = {"model": {"name": "m", "num_layers": 2}, "train": {"lr": 1}, "data": {"fraction": 1.0}, "layers": [0, 1]}
RECORD = {
    "run_id": "abcd1234",
    "identity": IDENTITY,
    "layers": [0, 1],
    "train": {"seconds": 10.0},
    "scores": {"gqa": {"value": 0.5, "stderr": 0.1, "num_samples": 4, "metrics": {}}},
    "provenance": {},
}
INVALID: dict[str, str] = {
    "cut": json.dumps(RECORD)[:40],
    "empty": "",
    "foreign": json.dumps({"version": 3}),
    "list": "[1, 2]",
    "without scores": json.dumps({key: value for key, value in RECORD.items() if key != "scores"}),
    "scores without errors": json.dumps(RECORD | {"scores": {"gqa": {"value": 0.5}}}),
    "bare scores": json.dumps(RECORD | {"scores": {"gqa": 0.5}}),
    "model without layers": json.dumps(RECORD | {"identity": {**IDENTITY, "model": {}}}),
    "training as text": json.dumps(RECORD | {"train": "yes"}),
}
EVALUATED = ("job=evaluate", "benchmark=tiny_gqa", "eval.limit=2")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the untouched LVLM was evaluated."""
    return finished(tmp_path_factory.mktemp("evaluated"), *EVALUATED)


def put(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(content)
    return folder / "record.json"


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_record_is_refused_in_one_line_with_its_path(tmp_path: Path, kind: str):
    path = put(tmp_path / "run", INVALID[kind])
    with pytest.raises(ValueError) as caught:
        record.read_record(path)
    assert str(caught.value).startswith(f"{path}: not ") and "\n" not in str(caught.value)


def test_unknown_keys_are_kept(tmp_path: Path):
    content = RECORD | {"later": {"more": 1}}
    assert record.read_record(put(tmp_path / "run", json.dumps(content))).to_json()["later"] == {"more": 1}


def test_invalid_neighbours_are_skipped(tmp_path: Path):
    for number, content in enumerate(INVALID.values()):
        put(tmp_path / f"invalid{number}", content)
    (tmp_path / "folder" / "record.json").mkdir(parents=True)
    put(tmp_path / "good", json.dumps(RECORD))
    mine = {**RECORD, "layers": [0], "identity": {**IDENTITY, "layers": [0]}}
    put(tmp_path / "untimed", json.dumps(mine | {"train": {}}))
    assert neighbours.all_layers_record(tmp_path / "new", record.parse_record(mine)) == record.parse_record(RECORD)
    assert list(neighbours.neighbour_records(tmp_path / "invalid0" / "none")) == []


@pytest.mark.parametrize("kind", ["cut", "foreign"])
def test_a_run_with_an_invalid_record_is_scored_again_from_its_answers(
    evaluated: Path, vrx: Callable[..., Any], kind: str
):
    (path,) = evaluated.glob("outputs/evaluate/tiny/*/record.json")
    before, answers = json.loads(path.read_text()), path.parent / "answers" / "tiny_gqa.jsonl"
    written = answers.stat().st_mtime_ns
    path.write_text(INVALID[kind])
    result = vrx(*EVALUATED, cwd=evaluated)
    assert result.returncode == 0 and f"{path}: not " in result.stderr and "Traceback" not in result.stderr
    assert json.loads(path.read_text()) == before and answers.stat().st_mtime_ns == written
    assert path.with_name("record.json.broken").read_text() == INVALID[kind]


def test_a_source_run_with_an_invalid_record_is_refused(vrx: Callable[..., Any], tmp_path: Path):
    path = put(tmp_path / "run", INVALID["without scores"])
    result = vrx("job=evaluate", f"job.run={path.parent}", "benchmark=tiny_gqa")
    assert result.returncode == 2 and f"vrx: {path}: not a run's record" in result.stderr
