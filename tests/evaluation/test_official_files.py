"""Files of the official downloads give the prompts, images and references of the official scripts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.composing import composed
from support.official_files import OFFICIAL, picture

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.evaluation.dataset_cache import convert
from vrx.evaluation.families import Sample
from vrx.evaluation.scoring import score_benchmark
from vrx.metrics import per_answer


def read(name: str, config: BenchmarkConfig) -> list[Sample]:
    return samples(name, config, limit=None)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_become_prompts_images_and_references(ask, name: str):
    files, expected = OFFICIAL[name]
    loaded = read(name, ask(name, files))
    assert [(sample.prompt, sample.image.name if sample.image else "", sample.answer) for sample in loaded] == expected


def test_every_benchmark_of_the_paper_has_official_files_in_the_tests():
    assert {*composed(["benchmark=all"]).benchmark, "flickr30k"} == set(OFFICIAL)


def test_converted_data_are_written_below_the_output_root(configs: dict[str, BenchmarkConfig]):
    assert {config.cache for config in configs.values()} == {"outputs/data/benchmarks"}


def test_data_are_converted_again_only_when_they_change(ask, tmp_path: Path):
    files, _ = OFFICIAL["gqa"]
    config = ask("gqa", files)
    first = convert("gqa", config)
    assert convert("gqa", config) == first
    questions = files["testdev_balanced_questions.json"]
    more = {**questions, "202": questions["201"]}
    (tmp_path / "data" / "testdev_balanced_questions.json").write_text(json.dumps(more))
    assert convert("gqa", config).path != first.path
    assert [sample.answer.id for sample in read("gqa", config)] == ["201", "202"]


def test_tdiuc_references_outside_the_answer_key_score_zero(ask):
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
    scores = score_benchmark(config, answers)["metrics"]
    assert scores["official"] == scores["official_mean_per_type"] == pytest.approx(2 / 3)
    assert scores["score_mean_per_type"] == 1, "the authors look at no key"


def test_textvqa_takes_its_questions_from_llavas_file_if_present(ask):
    files, expected = OFFICIAL["textvqa"]
    prompt = "What?\nReference OCR token: other\nAnswer the question using a single word or phrase."
    line = json.dumps({"question_id": "ab", "image": "ab.jpg", "text": prompt})
    (sample,) = read("textvqa", ask("textvqa", {**files, "llava_textvqa_val_v051_ocr.jsonl": line + "\n"}))
    assert sample.prompt == prompt
    assert sample.answer == expected[0][2]
