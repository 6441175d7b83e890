"""Official files, in the folder that VRX_REALDATA names, become the prompts and scores that were published."""

from __future__ import annotations

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.official_files import TSV

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.evaluation.families import Sample
from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer

REAL = Path(os.environ.get("VRX_REALDATA", "/nowhere"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="VRX_REALDATA names no folder of official files")


def read(name: str, config: BenchmarkConfig) -> list[Sample]:
    return samples(name, config, limit=None)


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
