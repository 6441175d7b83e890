"""Instruction data becomes a table, row by row and once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.instruction_data import GOOD, SEEN, TOLD, Make, first, made, talk, unhurried

from vrx.config.schema import InstructionsConfig
from vrx.data import json_stream
from vrx.data.instruction_dataset import build_table, data_digest, first_row_of_images, open_table, word_counts


def test_every_record_becomes_a_row_in_its_place(make: Make, tmp_path: Path):
    rows = list(open_table(made(make(GOOD), tmp_path / "cache")))
    assert [row["id"] for row in rows] == [str(record.get("id", "")) for record in GOOD]
    assert [row["image"] for row in rows] == [record.get("image") for record in GOOD]
    for row, record in zip(rows, GOOD, strict=True):
        plain = [{"from": turn["from"], "value": turn["value"]} for turn in record["conversations"]]
        assert json.loads(row["conversations"]) == plain


def test_text_alone_needs_no_image_folder(make: Make, tmp_path: Path):
    assert len(open_table(made(make([TOLD], image_folder=None), tmp_path))) == 1


def test_a_folder_reached_over_a_link_is_the_folder(make: Make, tmp_path: Path):
    (tmp_path / "elsewhere").symlink_to(tmp_path / "images")
    assert len(open_table(made(make([SEEN], image_folder=str(tmp_path / "elsewhere")), tmp_path / "cache"))) == 1


def test_a_link_that_the_owner_put_into_the_folder_is_followed(make: Make, tmp_path: Path):
    assert len(open_table(made(make([{**SEEN, "image": "link.png"}]), tmp_path / "cache"))) == 1


def test_a_row_knows_its_words_and_whether_it_has_an_image(make: Make, tmp_path: Path):
    rows = open_table(made(make(GOOD), tmp_path / "cache"))
    words = [sum(len(turn["value"].split()) for turn in record["conversations"]) for record in GOOD]
    signs = [1 if record.get("image") else -1 for record in GOOD]
    assert word_counts(rows).tolist() == [sign * count for sign, count in zip(signs, words, strict=True)]


def test_images_are_told_once_each_with_the_first_row_that_names_them(make: Make, tmp_path: Path):
    assert first_row_of_images(open_table(made(make(GOOD), tmp_path / "cache"))) == {"a/red.png": 0, "a/красный.png": 8}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_rows_do_not_depend_on_how_the_file_is_cut_in_reading(make: Make, tmp_path: Path, chunk: int, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    config = make(json.dumps(GOOD, ensure_ascii=False, indent=3))
    assert list(json_stream.stream_items(Path(config.path or ""))) == GOOD


@unhurried
@given(value=st.lists(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)))
def test_a_list_is_read_as_json_reads_it(tmp_path_factory, value: list[Any]):
    path = tmp_path_factory.mktemp("list") / "list.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert list(json_stream.stream_items(path)) == value


@pytest.mark.slow
def test_a_file_of_llavas_size_becomes_a_table_in_little_memory(tmp_path: Path):
    """665,000 rows, about a gigabyte; under a tenth of what reading it whole takes."""
    text = talk("Where is the red one? " * 20, "On the left. " * 8) * 2
    turns = [json.dumps(text), json.dumps([*talk("<image>\nWhat colour?", "Red."), *text])]
    with (tmp_path / "data.json").open("w") as file:
        file.write("[")
        for number in range(665_000):
            seen = number % 16 > 0
            image = f'"image": "coco/{number % 90_000}.jpg", ' if seen else '"model": "", '
            file.write(f'{"," * bool(number)}{{"id": {number}, {image}"conversations": {turns[seen]}}}\n')
        file.write("]")
    config = InstructionsConfig(str(tmp_path / "data.json"), str(tmp_path), on_bad_image="skip")
    code = (
        "import resource, sys, time; from pathlib import Path; began = time.monotonic()\n"
        "from vrx.data import instruction_dataset; from vrx.config.schema import InstructionsConfig\n"
        f"config = {config!r}; cache = Path({str(tmp_path / 'cache')!r})\n"
        "digest = instruction_dataset.data_digest(config, cache)\n"
        "folder = instruction_dataset.build_table(config, cache, digest=digest)\n"
        "print(len(instruction_dataset.open_table(folder)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,"
        " time.monotonic() - began)"
    )

    def start() -> tuple[float, ...]:
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return tuple(map(float, told.stdout.split()))

    rows, first_gigabytes, _ = start()
    assert rows == 665_000 and first_gigabytes < 1
    rows, _, seconds = start()
    assert rows == 665_000 and seconds < 5


# ---- once


def test_the_digest_is_that_of_the_file(make: Make):
    config = make(GOOD)
    assert data_digest(config) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_the_digest_is_kept_as_long_as_the_file_stays_what_it_is(make: Make, tmp_path: Path):
    config, cache = make(GOOD), tmp_path / "cache"
    digest = data_digest(config, cache)
    (note,) = cache.iterdir()
    note.write_text(note.read_text().replace(digest, "kept"))
    assert data_digest(config, cache) == "kept"
    make([TOLD])
    assert data_digest(config, cache) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_the_table_is_made_once(make: Make, tmp_path: Path):
    config = make(GOOD)
    digest = data_digest(config)
    folder = build_table(config, tmp_path / "cache", digest=digest)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    Path(config.path or "").unlink()  # a second call has nothing to make it from
    assert build_table(config, tmp_path / "cache", digest=digest) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_data_is_another_table(make: Make, tmp_path: Path):
    one = made(make([SEEN]), tmp_path / "cache")
    assert made(make([TOLD]), tmp_path / "cache") != one
    assert open_table(one)["id"][:] == ["seen"]


@pytest.mark.parametrize("name", ["conversations-{}", ".conversations-{}.partial"])
def test_a_half_made_table_is_replaced(make: Make, tmp_path: Path, name: str):
    config = make(GOOD)
    half = tmp_path / "cache" / name.format(data_digest(config)[:16])
    half.mkdir(parents=True)
    (half / "left.over").touch()
    folder = made(config, tmp_path / "cache")
    assert len(open_table(folder)) == len(GOOD)
    assert not list((tmp_path / "cache").rglob("left.over"))


def test_a_table_made_without_looking_at_images_is_looked_at_when_that_is_asked_for(make: Make, tmp_path: Path):
    made(make(first(image="b.png"), on_bad_image="skip"), tmp_path / "cache")
    with pytest.raises(ValueError, match="does not exist"):
        made(make(first(image="b.png")), tmp_path / "cache")


def test_a_table_is_looked_at_again_for_another_image_folder(make: Make, tmp_path: Path):
    made(make([SEEN]), tmp_path / "cache")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="does not exist"):
        made(make([SEEN], image_folder=str(tmp_path / "bare")), tmp_path / "cache")
