"""Whatever the small files of a run's directory hold, they are read or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mutations import mutated

from vrx.config.errors import UserError
from vrx.runs.files import read_json_lines
from vrx.runs.importance_files import read_score_file
from vrx.runs.record import read_record
from vrx.runs.results import copied_weights
from vrx.runs.surgery_manifest import read_surgery
from vrx.runs.train_summary import read_train_summary

MODEL = {"name": "m", "num_layers": 2}
IDENTITY = {
    "model": MODEL,
    "train": {"lr": 1},
    "data": {"fraction": 1.0},
    "layers": [0, 1],
    "weights": {"backbone": "x"},
}
SCORE = {"value": 0.5, "stderr": 0.1, "num_samples": 4, "metrics": {"exact": 0.2}}
TRAIN = {"seconds": 10.0, "execution": {"compile": True}, "result": {"a.safetensors": "00"}}
RECORD = {"run_id": "abcd1234", "identity": IDENTITY, "layers": [0, 1], "train": TRAIN, "scores": {"gqa": SCORE}}
FILES: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "record.json": (read_record, {**RECORD, "provenance": {}}),
    "train.json": (read_train_summary, TRAIN),
    "scores.json": (
        read_score_file,
        {
            "version": 1,
            "model": {"model": MODEL, "weights": {}},
            "scored": None,
            "scores": {"block_influence": [0.1, 0.2]},
        },
    ),
    "surgery.json": (lambda path: read_surgery(path.parent), {"source": "../x", "reverted": [1], "pruned": []}),
    "copied.json": (lambda path: copied_weights(path.parent), {"weights": "00", "command": "vrx"}),
    "train.jsonl": (read_json_lines, {"step": 0, "loss": 1.0}),
}


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(data=st.data())
def test_any_file_of_a_run_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
):
    read, good = FILES[name]
    path = tmp_path_factory.getbasetemp() / name
    text = json.dumps(data.draw(mutated(good))).encode()
    path.write_bytes(data.draw(st.just(text) | st.binary(max_size=30) | st.just(text[: len(text) // 2])))
    try:
        read(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)


def test_a_log_is_read_up_to_a_row_that_is_none(tmp_path: Path):
    path = tmp_path / "train.jsonl"
    for row in (b"null", b"[1]", b"\xff", b'{"step": 2', b"[" * 100_000):
        path.write_bytes(b'{"step": 1}\n' + row + b'\n{"step": 3}\n')
        assert read_json_lines(path) == [{"step": 1}]
