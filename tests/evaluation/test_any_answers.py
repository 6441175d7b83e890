"""Whatever a file of answers or of questions holds, it is read or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mutations import mutated

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation import families
from vrx.evaluation.answers_elsewhere import read_answers
from vrx.evaluation.prediction_files import load_predictions

LMMS = {"logs": [{"doc_id": 0, "doc": {"question_id": "q0"}, "filtered_resps": ["a"]}, {"doc_id": 1, "resps": [["b"]]}]}
THEIRS: dict[str, Any] = {
    "jsonl": [{"question_id": "q0", "text": "a"}, {"question_id": "q1", "text": "b"}],
    "json": LMMS,
    "tsv": [["index", "prediction"], ["q0", "a"], ["q1", "b"]],
}
ANSWER = {"id": "q0", "text": "a", "references": ["a"], "box": [0, 0, 1, 1], "num_tokens": 3}
OURS = [{"key": "k", "benchmark": {"metric": "gqa_match"}, "version": 1}, ANSWER, {**ANSWER, "id": "q1"}]
QUESTIONS = {
    "short_answer": {"id": "q", "question": "What?", "answers": ["a"], "choices": ["a"], "question_type": "x"},
    "multiple_choice": {
        "id": "q",
        "question": "Which?",
        "choices": ["x", "y"],
        "answer": "A",
        "hint": "h",
        "group": "g",
    },
    "grounding": {"id": "q", "question": "the cat", "box": [1, 2, 3, 4], "width": 8, "height": 9},
    "document": {"id": "q", "text": "a b", "num_words": 2, "num_bytes": 3},
}


def lines(rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in (rows if isinstance(rows, list) else [rows]))


def written(rows: Any, ending: str) -> bytes:
    if ending == "tsv":
        cells = rows if isinstance(rows, list) else [rows]
        text = "\n".join("\t".join(map(str, row)) if isinstance(row, list) else str(row) for row in cells)
        return text.encode(errors="surrogatepass")
    return lines(rows) if ending == "jsonl" else json.dumps(rows).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answers")


@pytest.mark.parametrize("ending", THEIRS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_answers_of_another_program_are_read_or_refused_by_name(folder: Path, ending: str, data: st.DataObject):
    path = folder / f"answers.{ending}"
    path.write_bytes(written(data.draw(mutated(THEIRS[ending])), ending) + data.draw(st.binary(max_size=3)))
    try:
        texts = read_answers(path, ["q0", "q1"], key="score_answers.file")
    except UserError as error:
        assert str(error).startswith(f"score_answers.file={path}: ")
        assert "\n" not in str(error)
    else:
        assert set(texts) == {"q0", "q1"}
        assert all(text.encode() is not None for text in texts.values())  # can be written


@settings(max_examples=60)
@given(rows=mutated(OURS), rest=st.binary(max_size=5))
def test_any_prediction_file_is_read_as_far_as_it_is_one(folder: Path, rows: Any, rest: bytes):
    path = folder / "gqa.jsonl"
    path.write_bytes(lines(rows) + rest)
    try:
        predictions = load_predictions(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert predictions is None or all(name == answer.id for name, answer in predictions.answers.items())


@pytest.mark.parametrize("family", QUESTIONS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_question_file_is_read_or_refused_by_name(folder: Path, family: str, data: st.DataObject):
    path = folder / "questions.jsonl"
    rows = data.draw(mutated([QUESTIONS[family], {**QUESTIONS[family], "id": "r"}]))
    path.write_bytes(lines(rows) + data.draw(st.just(b"") | st.binary(max_size=4)))
    config = BenchmarkConfig(family=family, metric="gqa_match", path=str(path), image_folder=str(folder))
    try:
        samples = getattr(families, family)("any", config)
    except UserError as error:
        assert str(error).startswith((f"{path}: ", "benchmark.any.path"))
        assert "\n" not in str(error)
    else:
        assert all(sample.prompt.encode() and sample.answer.id.encode() is not None for sample in samples)
