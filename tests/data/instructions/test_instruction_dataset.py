"""Instruction data is converted to a table once, one row per record."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.instruction_data import GOOD, SEEN, TOLD, Make, first, make_table, talk, unhurried

from vrx.config.schema import InstructionsConfig
from vrx.data import json_stream
from vrx.data.instructions.instruction_dataset import (
    build_table,
    data_digest,
    first_row_of_images,
    open_table,
    word_counts,
)


def test_rows_follow_the_order_of_the_records(make: Make, tmp_path: Path):
    rows = list(open_table(make_table(make(GOOD), tmp_path / "cache")))
    assert [row["id"] for row in rows] == [str(record.get("id", "")) for record in GOOD]
    assert [row["image"] for row in rows] == [record.get("image") for record in GOOD]
    for row, record in zip(rows, GOOD, strict=True):
        plain = [{"from": turn["from"], "value": turn["value"]} for turn in record["conversations"]]
        assert json.loads(row["conversations"]) == plain


def test_text_only_data_needs_no_image_folder(make: Make, tmp_path: Path):
    assert len(open_table(make_table(make([TOLD], image_folder=None), tmp_path))) == 1


def test_image_folder_may_be_a_symbolic_link(make: Make, tmp_path: Path):
    (tmp_path / "elsewhere").symlink_to(tmp_path / "images")
    assert len(open_table(make_table(make([SEEN], image_folder=str(tmp_path / "elsewhere")), tmp_path / "cache"))) == 1


def test_symbolic_link_inside_the_image_folder_is_followed(make: Make, tmp_path: Path):
    assert len(open_table(make_table(make([{**SEEN, "image": "link.png"}]), tmp_path / "cache"))) == 1


def test_word_counts_are_negative_without_an_image(make: Make, tmp_path: Path):
    rows = open_table(make_table(make(GOOD), tmp_path / "cache"))
    words = [sum(len(turn["value"].split()) for turn in record["conversations"]) for record in GOOD]
    signs = [1 if record.get("image") else -1 for record in GOOD]
    assert word_counts(rows).tolist() == [sign * count for sign, count in zip(signs, words, strict=True)]


def test_first_row_of_every_distinct_image_is_returned(make: Make, tmp_path: Path):
    assert first_row_of_images(open_table(make_table(make(GOOD), tmp_path / "cache"))) == {
        "a/red.png": 0,
        "a/красный.png": 8,
    }


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_items_do_not_depend_on_the_read_size(make: Make, tmp_path: Path, chunk: int, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    config = make(json.dumps(GOOD, ensure_ascii=False, indent=3))
    assert list(json_stream.stream_items(Path(config.path or ""))) == GOOD


@unhurried
@given(value=st.lists(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)))
def test_streamed_items_equal_those_of_json_loads(tmp_path_factory, value: list[Any]):
    path = tmp_path_factory.mktemp("list") / "list.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert list(json_stream.stream_items(path)) == value


@pytest.mark.slow
def test_file_of_llavas_size_is_converted_in_little_memory_and_read_once(tmp_path: Path):
    """665,000 rows, about a gigabyte; under a tenth of json.loads's memory. Then only the table is read."""
    text = talk("Where is the red one? " * 20, "On the left. " * 8) * 2
    turns = [json.dumps(text), json.dumps([*talk("<image>\nWhat colour?", "Red."), *text])]
    with (tmp_path / "data.json").open("w") as file:
        file.write("[")
        for number in range(665_000):
            has_image = number % 16 > 0
            image = f'"image": "coco/{number % 90_000}.jpg", ' if has_image else '"model": "", '
            file.write(f'{"," * bool(number)}{{"id": {number}, {image}"conversations": {turns[has_image]}}}\n')
        file.write("]")
    config = InstructionsConfig(str(tmp_path / "data.json"), str(tmp_path), on_bad_image="skip")
    code = (
        "from pathlib import Path; from vrx.launch.devices import peak_resident_bytes\n"
        "from vrx.data.instructions import instruction_dataset; from vrx.config.schema import InstructionsConfig\n"
        f"config = {config!r}; cache = Path({str(tmp_path / 'cache')!r})\n"
        "before = peak_resident_bytes()\n"
        "digest = instruction_dataset.data_digest(config, cache)\n"
        "folder = instruction_dataset.build_table(config, cache, digest=digest)\n"
        "print(len(instruction_dataset.open_table(folder)), (peak_resident_bytes() - before) / 1e9)"
    )

    def start() -> tuple[float, ...]:
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return tuple(map(float, process.stdout.split()))

    rows, gigabytes = start()
    assert rows == 665_000 and gigabytes < 0.4
    data = tmp_path / "data.json"
    stat = data.stat()
    data.write_bytes(b"")
    os.truncate(data, stat.st_size)
    os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # of the same size and time, but without content
    rows, _ = start()
    assert rows == 665_000


# ---- digest and cached table


def test_digest_is_the_files_sha256(make: Make):
    config = make(GOOD)
    assert data_digest(config) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_cached_digest_is_used_until_the_file_changes(make: Make, tmp_path: Path):
    config, cache = make(GOOD), tmp_path / "cache"
    digest = data_digest(config, cache)
    (file,) = cache.iterdir()
    file.write_text(file.read_text().replace(digest, "cached"))
    assert data_digest(config, cache) == "cached"
    make([TOLD])
    assert data_digest(config, cache) == hashlib.sha256(Path(config.path or "").read_bytes()).hexdigest()


def test_table_is_converted_once(make: Make, tmp_path: Path):
    config = make(GOOD)
    digest = data_digest(config)
    folder = build_table(config, tmp_path / "cache", digest=digest)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    Path(config.path or "").unlink()  # a second conversion would fail
    assert build_table(config, tmp_path / "cache", digest=digest) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_data_gets_another_table(make: Make, tmp_path: Path):
    folder = make_table(make([SEEN]), tmp_path / "cache")
    assert make_table(make([TOLD]), tmp_path / "cache") != folder
    assert open_table(folder)["id"][:] == ["seen"]


@pytest.mark.parametrize("name", ["conversations-{}", ".conversations-{}.partial"])
def test_incomplete_table_is_replaced(make: Make, tmp_path: Path, name: str):
    config = make(GOOD)
    half = tmp_path / "cache" / name.format(data_digest(config)[:16])
    half.mkdir(parents=True)
    (half / "left.over").touch()
    folder = make_table(config, tmp_path / "cache")
    assert len(open_table(folder)) == len(GOOD)
    assert not list((tmp_path / "cache").rglob("left.over"))


def test_images_of_a_cached_table_are_checked_when_the_policy_becomes_error(make: Make, tmp_path: Path):
    make_table(make(first(image="b.png"), on_bad_image="skip"), tmp_path / "cache")
    with pytest.raises(ValueError, match="does not exist"):
        make_table(make(first(image="b.png")), tmp_path / "cache")


def test_images_are_checked_again_for_another_image_folder(make: Make, tmp_path: Path):
    make_table(make([SEEN]), tmp_path / "cache")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="does not exist"):
        make_table(make([SEEN], image_folder=str(tmp_path / "bare")), tmp_path / "cache")
