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
def test_the_12578_gqa_prompts_equal_the_official_ones(ask, tmp_path: Path):
    official = lines(REAL / "gqa" / "bunny_gqa_testdev_balanced.jsonl.gz")
    images = with_images(tmp_path / "images", {row["image"] for row in official})
    loaded = read("gqa", ask("gqa", str(REAL / "gqa" / "testdev_balanced_questions.tar.gz"), image_folder=images))
    questions = [(sample.answer.id, sample.image and sample.image.name, sample.prompt) for sample in loaded]
    assert len(questions) == 12578
    assert questions == [(row["question_id"], row["image"], row["text"]) for row in official]


@real
def test_the_5000_textvqa_prompts_equal_the_official_ones(ask, tmp_path: Path):
    """The files have no answers, so the annotations pair the real questions and tokens with made-up ones."""
    official = lines(REAL / "textvqa" / "bunny_textvqa_val_v051_ocr.jsonl.gz")
    rows, tokens = [], []
    for number, row in enumerate(official):
        question, ocr_line, _ = row["text"].rsplit("\n", 2)
        joined = ocr_line.removeprefix("Reference OCR token: ")
        rows.append(
            {"question_id": number, "question": question, "image_id": row["question_id"], "answers": ["x"] * 10}
        )
        tokens.append({"image_id": row["question_id"], "ocr_tokens": joined.split(", ") if joined else []})
    with_images(tmp_path / "data" / "images", {row["image"] for row in official})
    files = {"TextVQA_0.5.1_val.json": {"data": rows}, "TextVQA_Rosetta_OCR_v0.2_val.json": {"data": tokens}}
    prompts = [sample.prompt for sample in read("textvqa", ask("textvqa", files))]
    assert len(prompts) == 5000
    assert prompts == [row["text"] for row in official]

    packed_file = {
        "bunny_textvqa_val_v051_ocr.jsonl.gz": (REAL / "textvqa" / "bunny_textvqa_val_v051_ocr.jsonl.gz").read_bytes()
    }
    lowered = [{**row, "question": row["question"].lower()} for row in rows]
    from_file = read("textvqa", ask("textvqa", {**files, "TextVQA_0.5.1_val.json": {"data": lowered}, **packed_file}))
    assert [sample.prompt for sample in from_file] == prompts


@real
def test_the_4241_scienceqa_prompts_and_answers_equal_the_official_ones(ask, tmp_path: Path):
    path = REAL / "scienceqa" / "bunny_test_CQM-A.json.gz"
    official = json.loads(gzip.decompress(path.read_bytes()))
    images = with_images(tmp_path / "images", {row["image"] for row in official if "image" in row})
    loaded = read("scienceqa", ask("scienceqa", str(path), subset="ScienceQA-FULL", image_folder=images))
    suffix = "\nAnswer with the option's letter from the given choices directly."
    official_prompts = [row["conversations"][0]["value"].replace("<image>\n", "") + suffix for row in official]
    assert [sample.prompt for sample in loaded] == official_prompts
    assert [sample.answer.references for sample in loaded] == [(row["conversations"][1]["value"],) for row in official]
    assert len(loaded) == 4241
    assert len(read("scienceqa", ask("scienceqa", str(path), image_folder=images))) == 2017


@real
def test_llavas_stored_scienceqa_answers_score_as_published(ask, tmp_path: Path):
    path = REAL / "scienceqa" / "bunny_test_CQM-A.json.gz"
    official = json.loads(gzip.decompress(path.read_bytes()))
    images = with_images(tmp_path / "images", {row["image"] for row in official if "image" in row})
    loaded = read("scienceqa", ask("scienceqa", str(path), subset="ScienceQA-FULL", image_folder=images))
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
        for sample in loaded
    ]
    assert sum(value for _, value in scores) == stored["correct"] == 3863
    assert sum(value for sample, value in scores if sample.image) == 1781


@real
def test_bbh_has_27_tasks_and_stored_answers_score_as_published(ask):
    loaded = read("bbh", ask("bbh", str(REAL / "bbh")))
    assert len(loaded) == 6511
    assert len({sample.answer.question_type for sample in loaded}) == 27
    assert all(sample.prompt.endswith("\nPlease answer this question in a word or phrase.") for sample in loaded)
    for path in sorted((REAL / "bbh_codex_direct").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))["outputs"]
        published = json.loads(path.with_name(f"{path.stem}_eval_metrics.jsonl").read_text(encoding="utf-8"))
        gold = [sample.answer for sample in loaded if sample.answer.question_type == path.stem]
        scores = [
            per_answer.bbh_match(Answer(answer.id, row["prediction"], answer.references))
            for answer, row in zip(gold, stored, strict=True)
        ]
        assert 100 * aggregate.mean(scores) == pytest.approx(published["accuracy"])


@real
def test_mmbench_reads_the_20_sample_pictures(ask):
    official = json.loads((REAL / "mmbench_samples" / "samples.json").read_text(encoding="utf-8"))
    rows, pictures = [TSV], set()
    for number, row in enumerate(official):
        image = (REAL / "mmbench_samples" / "images" / row["image"]).read_bytes()
        pictures.add(image)
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
    loaded = read("mmbench", ask("mmbench", {"mmbench.tsv": "".join(rows)}))
    assert len(loaded) == len(official)
    assert {sample.image.read_bytes() for sample in loaded if sample.image} == pictures
    assert len(pictures) == 20


@real
def test_wikitext_is_read_page_by_page(ask):
    loaded = read("wikitext", ask("wikitext", str(REAL / "wikitext" / "wikitext-2_test.txt.gz")))
    assert len(loaded) == 62
    assert loaded[0].prompt.lstrip().startswith("= Robert <unk> =")
    assert sum(sample.answer.num_words for sample in loaded) > 200_000
