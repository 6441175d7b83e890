"""Official files and data sets of the hub become our rows, and from these the prompts that the official scripts ask.

What is made up here has the official layout in small; what is real lies in the folder that VRX_REALDATA names.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from support.composing import composed

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.evaluation.dataset_cache import convert
from vrx.evaluation.families import Sample
from vrx.evaluation.scoring import score_benchmark
from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer

REAL = Path(os.environ.get("VRX_REALDATA", "/nowhere"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="VRX_REALDATA names no folder of official files")


def picture(red: int = 200, *, form: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="session")
def configs() -> dict[str, BenchmarkConfig]:
    return composed(["benchmark=[all,perplexity,flickr30k]"]).benchmark


@pytest.fixture
def ask(tmp_path: Path, configs: dict[str, BenchmarkConfig]) -> Callable[..., BenchmarkConfig]:
    """A benchmark of `conf/benchmark` whose data are files in a folder, by name: bytes, text, or what becomes JSON."""

    def make(name: str, files: dict[str, Any] | str, **options: Any) -> BenchmarkConfig:
        for file, content in files.items() if isinstance(files, dict) else ():
            path = tmp_path / "data" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            content = content if isinstance(content, str | bytes) else json.dumps(content)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        path = files if isinstance(files, str) else str(tmp_path / "data")
        told = {key: str(value) for key, value in options.items()}
        return dataclasses.replace(configs[name], path=path, cache=str(tmp_path / "cache"), **told)

    return make


def read(name: str, config: BenchmarkConfig) -> list[Sample]:
    return samples(name, config, limit=None)


# ---- the official layouts in small

REFERENCES = [
    {
        "split": "test",
        "image_id": 7,
        "ann_id": 3,
        "sentences": [{"sent_id": 5, "sent": "the cat"}, {"sent_id": 6, "sent": "it"}],
    },
    {"split": "val", "image_id": 7, "ann_id": 3, "sentences": [{"sent_id": 9, "sent": "not asked"}]},
]
INSTANCES = {
    "images": [{"id": 7, "file_name": "COCO_train2014_7.png", "width": 64, "height": 48}],
    "annotations": [{"id": 3, "bbox": [1, 2, 30, 40]}],
}
BOOKS = {
    "b1": {"imageURL": "http://x/a.png", "questions": ["Who?", "What?"], "answers": ["Ada", "Art"], "split": 3},
    "b2": {"imageURL": "http://x/a.png", "questions": ["No?"], "answers": ["No"], "split": 1},
}
TSV = "\t".join(["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "split"]) + "\n"
ENCODED = base64.b64encode(picture()).decode()
PROBLEM = {
    "question": "Warm?",
    "choices": ["yes", "no"],
    "answer": 1,
    "hint": "",
    "image": "image.png",
    "split": "test",
}
TDIUC_QUESTIONS = {"questions": [{"question_id": n, "image_id": 9, "question": "How many?"} for n in (1, 2)]}
TDIUC_ANNOTATIONS = {
    "annotations": [
        {"question_id": 1, "question_type": "counting", "answers": [{"answer": "2"}]},
        {"question_id": 2, "question_type": "absurd", "answers": [{"answer": "doesnotapply"}]},
    ]
}
OFFICIAL: dict[str, tuple[dict[str, Any], list[tuple[str, str, Answer]]]] = {
    "ocrvqa": (
        {"dataset.json": BOOKS, "images/b1.png": picture()},
        [
            ("Please answer the question in one words.\nWho?", "b1.png", Answer("b1_0", "", ("Ada",))),
            ("Please answer the question in one words.\nWhat?", "b1.png", Answer("b1_1", "", ("Art",))),
        ],
    ),
    "flickr30k": (
        {"results_20130124.token": '7.jpg#0\tA "dog .\n7.jpg#1\tIt runs .\n', "images/7.jpg": picture()},
        [("Please describe this image in detail.", "7.jpg", Answer("7", "", ('A "dog .', "It runs .")))],
    ),
    "docvqa": (
        {
            "val_v1.0_withQT.json": {
                "data": [{"questionId": 49, "question": "Date?", "image": "documents/p.png", "answers": ["1/2", "1.2"]}]
            },
            "documents/p.png": picture(),
        },
        [("Please answer the question in one words.\nDate?", "p.png", Answer("49", "", ("1/2", "1.2")))],
    ),
    "refcocog": (
        {
            "refs(umd).p": pickle.dumps(REFERENCES, protocol=2),
            "instances.json": INSTANCES,
            "images/COCO_train2014_7.png": picture(),
        },
        [
            (
                f"Please provide the bounding box coordinate of the region this sentence describes: {sentence}",
                "COCO_train2014_7.png",
                Answer(number, "", (), box=(1, 2, 31, 42), image_size=(64, 48)),
            )
            for number, sentence in (("5", "the cat"), ("6", "it"))
        ],
    ),
    "tdiuc": (
        {
            "Questions/OpenEnded_mscoco_val2014_questions.json": TDIUC_QUESTIONS,
            "Annotations/mscoco_val2014_annotations.json": TDIUC_ANNOTATIONS,
            "images/COCO_val2014_000000000009.jpg": picture(form="JPEG"),
        },
        [
            (
                "How many? Answer the question in one word.",
                "COCO_val2014_000000000009.jpg",
                Answer("1", "", ("2",), question_type="counting"),
            )
        ],
    ),
    "mmbench": (
        {
            "mmbench.tsv": TSV
            + f"3\tWhich?\tIt is.\tred\tblue\tnan\t\tA\tcolour\t{ENCODED}\tdev\n"
            + "1000003\tWhich?\t\tblue\tred\t\t\tB\tcolour\t3\tdev\n"
            + f"4\tWhich?\t\tblue\tred\t\t\tB\tcolour\t{ENCODED}\ttest\n"
        },
        [
            (
                "It is.\nWhich?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.",
                "3.png",
                Answer("3", "", ("A",), ("red", "blue"), "colour", "3"),
            ),
            (
                "Which?\nA. blue\nB. red\nAnswer with the option's letter from the given choices directly.",
                "3.png",
                Answer("1000003", "", ("B",), ("blue", "red"), "colour", "3"),
            ),
        ],
    ),
    "gqa": (
        {
            "testdev_balanced_questions.json": {
                "201": {"question": "Red?", "answer": "no", "imageId": "n1", "types": {"structural": "verify"}}
            },
            "images/n1.jpg": picture(form="JPEG"),
        },
        [
            (
                "Red?\nAnswer the question using a single word or phrase.",
                "n1.jpg",
                Answer("201", "", ("no",), question_type="verify"),
            )
        ],
    ),
    "scienceqa": (
        {
            "problems.json": {"8": PROBLEM, "9": {**PROBLEM, "image": None}, "10": {**PROBLEM, "hint": "Sun."}},
            "pid_splits.json": {"test": ["10", "9", "8"], "val": []},
            "images/test/10/image.png": picture(),
            "images/test/8/image.png": picture(),
        },
        [
            (
                f"{hint}Warm?\nA. yes\nB. no\nAnswer with the option's letter from the given choices directly.",
                "image.png",
                Answer(number, "", ("B",), ("yes", "no")),
            )
            for number, hint in (("10", "Context: Sun.\n"), ("8", ""))
        ],
    ),
    "textvqa": (
        {
            "TextVQA_0.5.1_val.json": {
                "data": [{"question_id": 34602, "question": "what?", "image_id": "ab", "answers": ["x"] * 10}]
            },
            "TextVQA_Rosetta_OCR_v0.2_val.json": {"data": [{"image_id": "ab", "ocr_tokens": ["DA", "k"]}]},
            "images/ab.jpg": picture(form="JPEG"),
        },
        [
            (
                "What?\nReference OCR token: DA, k\nAnswer the question using a single word or phrase.",
                "ab.jpg",
                Answer("34602", "", ("x",) * 10),
            )
        ],
    ),
    "mmlu": (
        {
            "test/abstract_algebra_test.csv": '"One, or two?",1,2,3,4,C\n',
            "dev/abstract_algebra_dev.csv": "no,1,2,3,4,A\n" * 6,
        },
        [
            (
                "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
                + "no\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: A\n\n" * 5
                + "One, or two?\nA. 1\nB. 2\nC. 3\nD. 4\n"
                "Answer with the option's letter from the given choices directly.",
                "",
                Answer("abstract_algebra_0", "", ("C",), ("1", "2", "3", "4"), "abstract_algebra"),
            )
        ],
    ),
    "bbh": (
        {"snarks.json": {"canary": "", "examples": [{"input": "Which?\nOptions:\n(A) x\n(B) y", "target": "(B)"}]}},
        [
            (
                "Which?\nOptions:\n(A) x\n(B) y\nPlease answer this question in a word or phrase.",
                "",
                Answer("snarks_0", "", ("(B)",), ("x", "y"), "snarks"),
            )
        ],
    ),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_become_prompts_images_and_references(ask, name: str):
    files, expected = OFFICIAL[name]
    found = read(name, ask(name, files))
    assert [(sample.prompt, sample.image.name if sample.image else "", sample.answer) for sample in found] == expected


def test_every_benchmark_of_the_paper_has_its_files_here():
    assert {*composed(["benchmark=all"]).benchmark, "flickr30k"} == set(OFFICIAL)


def test_what_is_read_lies_below_the_output_root(configs: dict[str, BenchmarkConfig]):
    assert {config.cache for config in configs.values()} == {"outputs/data/benchmarks"}


def test_what_was_read_is_not_read_again_until_it_changes(ask, tmp_path: Path):
    files, _ = OFFICIAL["gqa"]
    config = ask("gqa", files)
    first = convert("gqa", config)
    assert convert("gqa", config) == first
    told = json.loads(
        files["testdev_balanced_questions.json"] if False else json.dumps(files["testdev_balanced_questions.json"])
    )
    told["202"] = told["201"]
    (tmp_path / "data" / "testdev_balanced_questions.json").write_text(json.dumps(told | {"202": told["201"]}))
    assert convert("gqa", config).path != first.path
    assert [sample.answer.id for sample in read("gqa", config)] == ["201", "202"]


def test_tdiuc_knows_which_answers_its_key_lacks(ask):
    files, _ = OFFICIAL["tdiuc"]
    questions = {"questions": [{"question_id": n, "image_id": 9, "question": "What?"} for n in (1, 2, 3)]}
    rows = [
        {"question_id": n, "question_type": "color", "answers": [{"answer": gold}]}
        for n, gold in ((1, "red"), (2, "teal"), (3, "a, b"))
    ]
    files = {
        "Questions/OpenEnded_mscoco_val2014_questions.json": questions,
        "Annotations/mscoco_val2014_annotations.json": {"annotations": rows},
        "images/COCO_val2014_000000000009.jpg": picture(form="JPEG"),
        "sample_answerkey.csv": 'red,0\n"a, b",1\n',
    }
    config = ask("tdiuc", files)
    answers = [dataclasses.replace(s.answer, text=s.answer.references[0]) for s in read("tdiuc", config)]
    assert [per_answer.tdiuc_match(answer) for answer in answers] == [1, 0, 1]
    told = score_benchmark(config, answers)["metrics"]
    assert told["official"] == told["official_mean_per_type"] == pytest.approx(2 / 3)
    assert told["score_mean_per_type"] == 1, "the authors look at no key"


def test_textvqa_takes_the_questions_of_llavas_file(ask):
    files, expected = OFFICIAL["textvqa"]
    asked = "What?\nReference OCR token: other\nAnswer the question using a single word or phrase."
    line = json.dumps({"question_id": "ab", "image": "ab.jpg", "text": asked})
    (sample,) = read("textvqa", ask("textvqa", {**files, "llava_textvqa_val_v051_ocr.jsonl": line + "\n"}))
    assert sample.prompt == asked
    assert sample.answer == expected[0][2]


# ---- data sets of the hub, as folders

HUB: dict[str, tuple[list[dict[str, Any]], list[Answer]]] = {
    "ocrvqa": (
        [{"image": "PIC", "image_id": "b1", "questions": ["Who?", "What?"], "answers": ["Ada", "Art"]}],
        [Answer("b1_0", "", ("Ada",)), Answer("b1_1", "", ("Art",))],
    ),
    "flickr30k": (
        [{"image": "PIC", "caption": ["A dog .", "It runs ."], "filename": "7.jpg", "img_id": "0"}],
        [Answer("7", "", ("A dog .", "It runs ."))],
    ),
    "docvqa": (
        [
            {
                "questionId": "4",
                "question": "Date?",
                "answers": ["1", "2"],
                "image": "PIC",
                "ucsf_document_id": "d",
                "ucsf_document_page_no": "1",
            }
        ],
        [Answer("4", "", ("1", "2"))],
    ),
    "refcocog": (
        [
            {
                "question_id": "8",
                "image": "PIC",
                "question": "-",
                "answer": ["the cat", "it"],
                "bbox": [1.0, 2.0, 30.0, 40.0],
                "file_name": "c_1.jpg",
            }
        ],
        [Answer(f"8_{n}", "", (), box=(1, 2, 31, 42), image_size=(64, 48)) for n in (0, 1)],
    ),
    "mmbench": (
        [
            {
                "index": 3,
                "question": "Which?",
                "hint": "nan",
                "A": "red",
                "B": "blue",
                "C": "nan",
                "D": "nan",
                "answer": "A",
                "category": "c",
                "image": "PIC",
            }
        ],
        [Answer("3", "", ("A",), ("red", "blue"), "c", "3")],
    ),
    "scienceqa": (
        [{"image": "PIC", "question": "Warm?", "choices": ["yes", "no"], "answer": 1, "hint": "", "subject": "sun"}],
        [Answer("0", "", ("B",), ("yes", "no"), "sun")],
    ),
    "textvqa": (
        [
            {
                "image_id": "ab",
                "question_id": 3,
                "question": "what?",
                "image": "PIC",
                "answers": ["x"] * 10,
                "ocr_tokens": [],
            }
        ],
        [Answer("3", "", ("x",) * 10)],
    ),
    "mmlu": (
        [{"question": "One?", "subject": "law", "choices": ["1", "2", "3", "4"], "answer": 2}],
        [Answer("law_0", "", ("C",), ("1", "2", "3", "4"), "law")],
    ),
    "wikitext": ([{"page": " = A = \n one , two"}], [Answer("0", "", (), num_words=7, num_bytes=18)]),
    "pile10k": (
        [{"text": "one two", "meta": {"pile_set_name": "Books"}}],
        [Answer("0", "", (), question_type="Books", num_words=2, num_bytes=7)],
    ),
}


def table(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """Rows as a table of `datasets`: `PIC` stands for an image."""
    rows = [
        {key: {"bytes": picture(), "path": None} if value == "PIC" else value for key, value in row.items()}
        for row in rows
    ]
    data = datasets.Dataset.from_list(rows)
    return data.cast_column("image", datasets.Image()) if "image" in rows[0] else data


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Rows as a data set in a folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")

    def save(rows: list[dict[str, Any]], *, split: str = "test", parquet: bool = False) -> str:
        splits = {split: table(rows)}
        if split == "test" and not any(column.startswith("image") for column in rows[0]):
            splits["dev"] = table(5 * [rows[0]])
        folder = tmp_path / "hub"
        if parquet:
            (folder / "data").mkdir(parents=True)
            for name, data in splits.items():
                data.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
        else:
            datasets.DatasetDict(splits).save_to_disk(folder)
        return str(folder)

    return save


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("name", HUB)
def test_a_data_set_of_the_hub_gives_the_same_rows(ask, hub, name: str, parquet: bool):
    rows, expected = HUB[name]
    split = ask(name, {}).split
    found = read(name, ask(name, hub(rows, split=split, parquet=parquet)))
    assert [sample.answer for sample in found] == expected
    if "image" in rows[0]:
        assert all(sample.image and sample.image.read_bytes() == picture() for sample in found)


def test_gqa_of_the_hub_has_its_pictures_in_a_subset_of_their_own(ask, hub, tmp_path: Path, monkeypatch):
    told = {"id": "201", "imageId": "n1", "question": "Red?", "answer": "no"}
    parts = {
        "testdev_balanced_instructions": datasets.Dataset.from_list([told]),
        "testdev_balanced_images": datasets.Dataset.from_list(
            [{"id": "n1", "image": {"bytes": picture(), "path": None}}]
        ).cast_column("image", datasets.Image()),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda path, subset, split: parts[subset])
    (sample,) = read("gqa", ask("gqa", "lmms-lab/GQA"))
    assert (sample.answer.references, sample.image and sample.image.name) == (("no",), "n1.png")


# ---- refusals: one line that names benchmark, sample and column


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
        "benchmark.refcocog: sample 0: column bbox is [1, 2, 0, 3], must be",
    ),
    "box of three": (
        "refcocog",
        {**OFFICIAL["refcocog"][0], "instances.json": {**INSTANCES, "annotations": [{"id": 3, "bbox": [1, 2, 3]}]}},
        "benchmark.refcocog: sample 0: column bbox is [1, 2, 3], must be",
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
    told = str(refusal.value)
    assert told.startswith(why.replace("{folder}", str(tmp_path / "data")))
    assert "\n" not in told


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


REFERENCES_OF = {
    "ocrvqa": "answers",
    "docvqa": "answers",
    "refcocog": "bbox",
    "mmbench": "answer",
    "scienceqa": "answer",
    "textvqa": "answers",
    "mmlu": "answer",
    "flickr30k": "caption",
    "wikitext": "page",
    "pile10k": "text",
}


@pytest.mark.parametrize("name", HUB)
def test_a_column_that_is_missing_is_refused_by_sample_and_name_or_not_needed(ask, hub, name: str, tmp_path: Path):
    (row, *_), expected = HUB[name]
    split, needed, kind = ask(name, {}).split, set(), expected[0].question_type
    for column in row:
        shutil.rmtree(tmp_path / "hub", ignore_errors=True)
        other = {**without(row, column), f"{column}_": row[column]}
        try:
            found = [sample.answer for sample in read(name, ask(name, hub([other], split=split)))]
            assert [dataclasses.replace(answer, question_type=kind) for answer in found] == expected
        except ValueError as refusal:
            needed.add(column)
            assert re.match(
                rf"benchmark\.{name}: sample 0: column {column} (is missing; there are|is None)", str(refusal)
            )
            assert "\n" not in str(refusal)
    assert REFERENCES_OF[name] in needed


@pytest.mark.parametrize("name", HUB)
def test_a_sample_without_references_is_refused(ask, hub, name: str, tmp_path: Path):
    (row, *_), _ = HUB[name]
    column, split = REFERENCES_OF[name], ask(name, {}).split
    for nothing in (None, [], "", " ", [None]):
        if isinstance(nothing, list) and not isinstance(row[column], list):
            continue  # no table holds both
        shutil.rmtree(tmp_path / "hub", ignore_errors=True)
        config = ask(name, hub([{**row, column: nothing}], split=split))
        with pytest.raises(ValueError, match=rf"^benchmark\.{name}: sample 0: column {column} is .*, must be "):
            read(name, config)


def test_a_split_that_a_data_set_of_the_hub_lacks_is_refused(ask, hub):
    rows, _ = HUB["mmlu"]
    with pytest.raises(ValueError, match=r"benchmark\.mmlu\.path=.* split=nowhere"):
        read("mmlu", ask("mmlu", hub(rows, parquet=True), split="nowhere"))


def test_a_path_that_is_nowhere_is_refused(ask, configs, tmp_path: Path):
    with pytest.raises(UserError, match=r"benchmark\.gqa\.path=.*: no such file or folder"):
        read("gqa", ask("gqa", str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"benchmark\.gqa\.path=null: name its questions"):
        read("gqa", configs["gqa"])


def test_an_image_that_leaves_its_folder_is_refused(ask, hub):
    rows, _ = HUB["ocrvqa"]
    with pytest.raises(ValueError, match="leaves"):
        read("ocrvqa", ask("ocrvqa", hub([{**rows[0], "image_id": "../../b"}])))


# ---- real data


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def with_images(folder: Path, names: set[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"stands for the picture")
    return folder


@real
def test_gqa_asks_its_12578_questions_as_the_official_file_does(ask, tmp_path: Path):
    official = lines(REAL / "gqa" / "bunny_gqa_testdev_balanced.jsonl.gz")
    images = with_images(tmp_path / "images", {row["image"] for row in official})
    found = read("gqa", ask("gqa", str(REAL / "gqa" / "testdev_balanced_questions.tar.gz"), image_folder=images))
    asked = [(sample.answer.id, sample.image and sample.image.name, sample.prompt) for sample in found]
    assert len(asked) == 12578
    assert asked == [(row["question_id"], row["image"], row["text"]) for row in official]


@real
def test_textvqa_asks_its_5000_questions_as_the_official_file_does(ask, tmp_path: Path):
    """Its answers are not at hand: annotations are made up around the real questions and tokens."""
    official = lines(REAL / "textvqa" / "bunny_textvqa_val_v051_ocr.jsonl.gz")
    rows, tokens = [], []
    for number, row in enumerate(official):
        question, found, _ = row["text"].rsplit("\n", 2)
        told = found.removeprefix("Reference OCR token: ")
        rows.append(
            {"question_id": number, "question": question, "image_id": row["question_id"], "answers": ["x"] * 10}
        )
        tokens.append({"image_id": row["question_id"], "ocr_tokens": told.split(", ") if told else []})
    with_images(tmp_path / "data" / "images", {row["image"] for row in official})
    files = {"TextVQA_0.5.1_val.json": {"data": rows}, "TextVQA_Rosetta_OCR_v0.2_val.json": {"data": tokens}}
    made = [sample.prompt for sample in read("textvqa", ask("textvqa", files))]
    assert len(made) == 5000
    assert made == [row["text"] for row in official]

    packed = {
        "bunny_textvqa_val_v051_ocr.jsonl.gz": (REAL / "textvqa" / "bunny_textvqa_val_v051_ocr.jsonl.gz").read_bytes()
    }
    lowered = [{**row, "question": row["question"].lower()} for row in rows]
    taken = read("textvqa", ask("textvqa", {**files, "TextVQA_0.5.1_val.json": {"data": lowered}, **packed}))
    assert [sample.prompt for sample in taken] == made


@real
def test_scienceqa_asks_its_4241_questions_as_the_official_file_does(ask, tmp_path: Path):
    path = REAL / "scienceqa" / "bunny_test_CQM-A.json.gz"
    official = json.loads(gzip.decompress(path.read_bytes()))
    images = with_images(tmp_path / "images", {row["image"] for row in official if "image" in row})
    every = read("scienceqa", ask("scienceqa", str(path), subset="ScienceQA-FULL", image_folder=images))
    suffix = "\nAnswer with the option's letter from the given choices directly."
    told = [row["conversations"][0]["value"].replace("<image>\n", "") + suffix for row in official]
    assert [sample.prompt for sample in every] == told
    assert [sample.answer.references for sample in every] == [(row["conversations"][1]["value"],) for row in official]
    assert len(every) == 4241
    assert len(read("scienceqa", ask("scienceqa", str(path), image_folder=images))) == 2017


@real
def test_scienceqa_scores_llavas_stored_answers_as_published(ask, tmp_path: Path):
    path = REAL / "scienceqa" / "bunny_test_CQM-A.json.gz"
    official = json.loads(gzip.decompress(path.read_bytes()))
    images = with_images(tmp_path / "images", {row["image"] for row in official if "image" in row})
    every = read("scienceqa", ask("scienceqa", str(path), subset="ScienceQA-FULL", image_folder=images))
    stored = json.loads(gzip.decompress(next((REAL / "scienceqa").glob("llava_outputs*")).read_bytes()))
    scores = [
        (
            sample,
            per_answer.scienceqa_letter(
                Answer(
                    sample.answer.id,
                    stored["outputs"][sample.answer.id],
                    sample.answer.references,
                    sample.answer.choices,
                )
            ),
        )
        for sample in every
    ]
    assert sum(value for _, value in scores) == stored["correct"] == 3863
    assert sum(value for sample, value in scores if sample.image) == 1781


@real
def test_bbh_has_27_tasks_and_scores_stored_answers_as_published(ask):
    found = read("bbh", ask("bbh", str(REAL / "bbh")))
    assert len(found) == 6511
    assert len({sample.answer.question_type for sample in found}) == 27
    assert all(sample.prompt.endswith("\nPlease answer this question in a word or phrase.") for sample in found)
    for path in sorted((REAL / "bbh_codex_direct").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))["outputs"]
        published = json.loads(path.with_name(f"{path.stem}_eval_metrics.jsonl").read_text(encoding="utf-8"))
        gold = [sample.answer for sample in found if sample.answer.question_type == path.stem]
        scores = [
            per_answer.bbh_match(Answer(answer.id, row["prediction"], answer.references))
            for answer, row in zip(gold, stored, strict=True)
        ]
        assert 100 * aggregate.mean(scores) == pytest.approx(published["accuracy"])


@real
def test_mmbench_reads_its_20_sample_pictures(ask):
    told = json.loads((REAL / "mmbench_samples" / "samples.json").read_text(encoding="utf-8"))
    rows, seen = [TSV], set()
    for number, row in enumerate(told):
        image = (REAL / "mmbench_samples" / "images" / row["image"]).read_bytes()
        seen.add(image)
        options = [row["options"].get(letter, "").replace("\n", " ") for letter in "ABCD"]
        question = row["question"].replace("\n", " ").replace('"', "''")
        cells = [
            str(number),
            question,
            row["hint"] or "",
            *options,
            row["answer"],
            "c",
            base64.b64encode(image).decode(),
        ]
        rows.append("\t".join([*(cell.replace('"', "''") for cell in cells), "dev"]) + "\n")
    found = read("mmbench", ask("mmbench", {"mmbench.tsv": "".join(rows)}))
    assert len(found) == len(told)
    assert {sample.image.read_bytes() for sample in found if sample.image} == seen
    assert len(seen) == 20


@real
def test_wikitext_is_read_page_by_page(ask):
    found = read("wikitext", ask("wikitext", str(REAL / "wikitext" / "wikitext-2_test.txt.gz")))
    assert len(found) == 62
    assert found[0].prompt.lstrip().startswith("= Robert <unk> =")
    assert sum(sample.answer.num_words for sample in found) > 200_000


# ---- scores in the record


def test_tdiuc_has_its_means_over_types_beside_the_plain_one(ask):
    config = ask("tdiuc", {})
    answers = [
        Answer(str(n), text, ("red",), question_type=kind)
        for n, (text, kind) in enumerate(
            [("red", "color"), ("Red", "color"), ("blue", "sport"), ("red", "sport"), ("blue", "sport")]
        )
    ]
    entry = score_benchmark(config, answers)
    assert entry["value"] == 3 / 5
    assert entry["metrics"]["score_normalized_mean_per_type"] == pytest.approx((1 + 1 / 3) / 2)
    assert entry["metrics"]["score_mean_per_type"] == pytest.approx((1 + 1 / 3) / 2)
    assert entry["metrics"]["score_harmonic_mean_per_type"] == pytest.approx(2 / (1 + 3))
    assert entry["metrics"]["official"] == 2 / 5


def test_an_empty_answer_that_containment_counts_right_is_flagged(ask):
    config = ask("ocrvqa", {})
    entry = score_benchmark(config, [Answer("a", "", ("red",)), Answer("b", "red", ("red",))])
    assert (entry["value"], entry["metrics"]["exact_match"]) == (1.0, 0.5)
    assert entry["empty_answers_counted_right"] == {"score": 1}
    assert "empty_answers_counted_right" not in score_benchmark(config, [Answer("b", "red", ("red",))])
    beside = score_benchmark(ask("docvqa", {}), [Answer("a", " ", ("red",))])
    assert (beside["value"], beside["empty_answers_counted_right"]) == (0, {"containment": 1})


@pytest.mark.parametrize("text", ["", "[0.1, 0.2, 0.3]", "[0.9, 0.9, 0.1, 0.1]", "赤い犬", "[a, b, c, d]", "]" * 99])
def test_an_odd_answer_has_a_defined_score_in_every_benchmark(configs, text: str):
    for name, config in ((name, configs[name]) for name in OFFICIAL if configs[name].output_type != "loglikelihood"):
        frame = {"box": (6.4, 4.8, 32.0, 24.0), "image_size": (64, 48)} if name == "refcocog" else {}
        gold = "B" if config.family == "multiple_choice" else "crimson"
        answer = Answer("a", text, (gold,), ("x", "y"), "kind", choice_log_probs=(-1.0, -2.0), **frame)
        assert score_benchmark(config, [answer])["value"] == float(name == "ocrvqa" and not text)
