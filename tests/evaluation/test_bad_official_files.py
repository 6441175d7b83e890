"""Bad files of the official downloads are refused in one line that names benchmark, sample and column."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
from support.official_files import BOOKS, INSTANCES, OFFICIAL, PROBLEM, TDIUC_ANNOTATIONS, TSV

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.evaluation.families import Sample


def read(name: str, config: BenchmarkConfig) -> list[Sample]:
    return samples(name, config, limit=None)


def without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != column}


def annotated(answers: Any) -> dict[str, Any]:
    """TDIUC's annotations with these answers of the first question."""
    first, *rest = TDIUC_ANNOTATIONS["annotations"]
    return {"annotations": [{**first, "answers": answers}, *rest]}


QUESTION = {"questionId": 1, "question": "Date?", "image": "p.png", "answers": ["x"]}
WRONG = {
    "missing column": (
        "docvqa",
        {"val_v1.0.json": {"data": [QUESTION, without(QUESTION, "question")]}},
        "benchmark.docvqa: sample 1: column question is missing; there are questionId",
    ),
    "no references": (
        "docvqa",
        {"val_v1.0.json": {"data": [{**QUESTION, "answers": []}]}},
        "benchmark.docvqa: sample 0: column answers is [], must be a list",
    ),
    "blank question": (
        "docvqa",
        {"val_v1.0.json": {"data": [{**QUESTION, "question": " "}]}},
        "benchmark.docvqa: sample 0: column question is ' ', must be a text",
    ),
    "no object": (
        "docvqa",
        {"val_v1.0.json": {"data": ["x"]}},
        "benchmark.docvqa: sample 0: is 'x', must be an object",
    ),
    "no JSON": ("docvqa", {"val_v1.0.json": "{"}, "{folder}/val_v1.0.json: not valid JSON"),
    "too few answers": (
        "ocrvqa",
        {"dataset.json": {"b": {**BOOKS["b1"], "answers": ["Ada"]}}},
        "benchmark.ocrvqa: sample 0: column answers has 1 for 2 questions",
    ),
    "box without width": (
        "refcocog",
        {**OFFICIAL["refcocog"][0], "instances.json": {**INSTANCES, "annotations": [{"id": 3, "bbox": [1, 2, 0, 3]}]}},
        "benchmark.refcocog: {folder}/instances.json, annotations: sample 0: column bbox is [1, 2, 0, 3], must be",
    ),
    "box of three": (
        "refcocog",
        {**OFFICIAL["refcocog"][0], "instances.json": {**INSTANCES, "annotations": [{"id": 3, "bbox": [1, 2, 3]}]}},
        "benchmark.refcocog: {folder}/instances.json, annotations: sample 0: column bbox is [1, 2, 3], must be",
    ),
    "pickle with code": (
        "refcocog",
        {**OFFICIAL["refcocog"][0], "refs(umd).p": pickle.dumps(print)},
        "{folder}/refs(umd).p: asks for builtins.print",
    ),
    "no annotation": (
        "tdiuc",
        {**OFFICIAL["tdiuc"][0], "Annotations/mscoco_val2014_annotations.json": {"annotations": []}},
        "benchmark.tdiuc: sample 0: column question_id 1 is not in",
    ),
    "TDIUC without answers": (
        "tdiuc",
        {**OFFICIAL["tdiuc"][0], "Annotations/mscoco_val2014_annotations.json": annotated([])},
        "benchmark.tdiuc: question 1, sample 0: column answers is [], must be a list of at least one",
    ),
    "TDIUC without an answer's text": (
        "tdiuc",
        {**OFFICIAL["tdiuc"][0], "Annotations/mscoco_val2014_annotations.json": annotated([{"answer_id": 1}])},
        "benchmark.tdiuc: question 1, answer, sample 0: column answer is missing; there are answer_id",
    ),
    "no base64": (
        "mmbench",
        {"m.tsv": TSV + "3\tWhich?\t\tx\ty\t\t\tA\tc\t???\tdev\n"},
        "benchmark.mmbench: sample 0: column image is no base64",
    ),
    "no picture": (
        "mmbench",
        {"m.tsv": TSV + "3\tWhich?\t\tx\ty\t\t\tA\tc\tAAAA\tdev\n"},
        "benchmark.mmbench: sample 0: column image is no image",
    ),
    "index past the choices": (
        "scienceqa",
        {
            **OFFICIAL["scienceqa"][0],
            "problems.json": {"8": {**PROBLEM, "answer": 2}},
            "pid_splits.json": {"test": ["8"]},
        },
        "benchmark.scienceqa: sample 0: column answer is 2, must be the index of one of 2",
    ),
    "no tokens": (
        "textvqa",
        {**OFFICIAL["textvqa"][0], "TextVQA_Rosetta_OCR_v0.2_val.json": {"data": []}},
        "benchmark.textvqa: sample 0: column image_id ab has no OCR tokens",
    ),
    "short row": ("mmlu", {"law_dev.csv": "Who?,1,2,3\n"}, "benchmark.mmlu: law sample 0: column D is missing"),
    "too few shots": (
        "mmlu",
        {"law_dev.csv": "Who?,1,2,3,4,A\n", "law_test.csv": "Who?,1,2,3,4,A\n"},
        "benchmark.mmlu: law has 1 answered questions (dev), must be 5",
    ),
    "no target": (
        "bbh",
        {"snarks.json": {"examples": [{"input": "x"}]}},
        "benchmark.bbh: snarks sample 0: column target is missing",
    ),
    "no examples": ("bbh", {"snarks.json": {}}, "benchmark.bbh: {folder}/snarks.json: column examples is missing"),
    "no such file": ("tdiuc", {"x.json": {}}, "benchmark.tdiuc.path={folder}: holds none of *val2014_questions.json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_data_are_refused_in_one_line(ask, tmp_path: Path, case: str):
    name, files, why = WRONG[case]
    config = ask(name, files)
    with pytest.raises(UserError) as refusal:
        read(name, config)
    message = str(refusal.value)
    assert message.startswith(why.replace("{folder}", str(tmp_path / "data")))
    assert "\n" not in message


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_split_that_does_not_exist_is_refused(ask, name: str):
    config = ask(name, OFFICIAL[name][0], split="nowhere")
    with pytest.raises(UserError, match=rf"^benchmark\.{name}\.(split=nowhere: |path=.*nowhere)"):
        read(name, config)


def test_a_subset_that_does_not_exist_is_refused(ask):
    with pytest.raises(
        ValueError, match=r"benchmark\.scienceqa\.subset=nowhere: valid are ScienceQA-IMG, ScienceQA-FULL"
    ):
        read("scienceqa", ask("scienceqa", OFFICIAL["scienceqa"][0], subset="nowhere"))


def test_a_missing_path_is_refused(ask, configs, tmp_path: Path):
    with pytest.raises(UserError, match=r"benchmark\.gqa\.path=.*: no such file or folder"):
        read("gqa", ask("gqa", str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"benchmark\.gqa\.path=null: name its questions"):
        read("gqa", dataclasses.replace(configs["gqa"], path=None))
