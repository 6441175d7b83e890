"""Data sets of the hub, as folders, give the same samples as the official files; bad ones are refused by column."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import datasets
import pytest
from support.hub_datasets import HUB, REFERENCE_COLUMNS
from support.official_files import picture

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples
from vrx.evaluation.dataset_items import Item
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.families import Sample


def read(name: str, config: BenchmarkConfig) -> list[Sample]:
    return samples(name, config, limit=None)


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("name", HUB)
def test_a_data_set_of_the_hub_gives_the_same_samples_as_the_official_files(ask, hub, name: str, parquet: bool):
    rows, expected = HUB[name]
    split = ask(name, {}).split
    loaded = read(name, ask(name, hub(rows, split=split, parquet=parquet)))
    assert [sample.answer for sample in loaded] == expected
    if "image" in rows[0]:
        assert all(sample.image and sample.image.read_bytes() == picture() for sample in loaded)


def test_gqa_pictures_are_read_from_their_own_subset_of_the_hub_data_set(ask, hub, tmp_path: Path, monkeypatch):
    question = {"id": "201", "imageId": "n1", "question": "Red?", "answer": "no"}
    parts = {
        "testdev_balanced_instructions": datasets.Dataset.from_list([question]),
        "testdev_balanced_images": datasets.Dataset.from_list(
            [{"id": "n1", "image": {"bytes": picture(), "path": None}}]
        ).cast_column("image", datasets.Image()),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda path, subset, split, revision: parts[subset])
    (sample,) = read("gqa", ask("gqa", "lmms-lab/GQA"))
    assert (sample.answer.references, sample.image and sample.image.name) == (("no",), "n1.png")


def test_a_picture_of_a_conversion_that_was_killed_is_written_again(ask, hub, tmp_path: Path):
    rows, expected = HUB["ocrvqa"]
    config = ask("ocrvqa", hub(rows))
    first = read("ocrvqa", config)
    picture_file, (questions,) = first[0].image, (tmp_path / "cache").glob("*.jsonl")
    assert picture_file is not None
    questions.unlink()  # a question file is written last
    picture_file.write_bytes(picture()[:40])
    again = read("ocrvqa", config)
    assert [sample.answer for sample in again] == expected
    assert picture_file.read_bytes() == picture()


def test_a_picture_is_replaced_as_a_whole_by_the_first_record_with_its_name(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"cut")
    source = Source("own", "data", None, None, tmp_path)
    with (tmp_path / "a.png").open("rb") as reader:
        for red in (200, 100):
            assert source.save_image(Item({"image": picture(red)}, "row"), "a") == "a.png"
        assert reader.read() == b"cut"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [picture(200)]


# ---- refusals


@pytest.mark.parametrize("name", HUB)
def test_a_missing_column_is_refused_by_name_unless_it_is_not_needed(ask, hub, name: str, tmp_path: Path):
    (row, *_), expected = HUB[name]
    split, needed, kind = ask(name, {}).split, set(), expected[0].question_type
    for column in row:
        shutil.rmtree(tmp_path / "hub", ignore_errors=True)
        other = {**{key: value for key, value in row.items() if key != column}, f"{column}_": row[column]}
        try:
            loaded = [sample.answer for sample in read(name, ask(name, hub([other], split=split)))]
            assert [dataclasses.replace(answer, question_type=kind) for answer in loaded] == expected
        except ValueError as error:
            needed.add(column)
            assert re.match(
                rf"benchmark\.{name}: sample 0: column {column} (is missing; there are|is None)", str(error)
            )
            assert "\n" not in str(error)
    assert REFERENCE_COLUMNS[name] in needed


@pytest.mark.parametrize("name", HUB)
def test_a_sample_without_references_is_refused(ask, hub, name: str, tmp_path: Path):
    (row, *_), _ = HUB[name]
    column, split = REFERENCE_COLUMNS[name], ask(name, {}).split
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


@pytest.mark.parametrize("parquet", [False, True])
def test_without_a_split_the_valid_ones_are_named(ask, hub, parquet: bool):
    rows, _ = HUB["docvqa"]
    config = dataclasses.replace(ask("docvqa", hub(rows, split="validation", parquet=parquet)), split=None)
    with pytest.raises(UserError, match=r"^benchmark\.docvqa\.split=null: valid are validation$"):
        read("docvqa", config)


def test_an_image_that_leaves_its_folder_is_refused(ask, hub):
    rows, _ = HUB["ocrvqa"]
    with pytest.raises(ValueError, match="leaves"):
        read("ocrvqa", ask("ocrvqa", hub([{**rows[0], "image_id": "../../b"}])))
