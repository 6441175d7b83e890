"""What instruction data mean beyond what is trained on is refused by name, or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.instruction_data import SEEN, make_table, talk

from vrx.config.errors import UserError
from vrx.config.schema import InstructionsConfig
from vrx.data.instructions.instruction_dataset import data_digest, open_table

TEXT = {"id": 1, "conversations": talk("Two and two?", "Four.")}


def config_of(folder: Path, content: str | bytes) -> InstructionsConfig:
    path = folder / "d.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return InstructionsConfig(path=str(path), image_folder=str(folder), on_bad_image="skip")


@pytest.mark.parametrize("key", ["video", "images", "system_prompt", "\ud800"])
def test_a_key_that_means_more_is_refused_by_name(tmp_path: Path, key: str):
    config = config_of(tmp_path, json.dumps([TEXT, {**TEXT, key: "more"}]))
    with pytest.raises(UserError, match=r"d\.json: record 1 \(id 1\): .*: a key of no meaning here") as refused:
        make_table(config, tmp_path / "cache")
    assert ascii(key)[1:-1] in str(refused.value)


def test_a_picture_without_a_tag_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows: list[dict[str, Any]] = [{**SEEN, "conversations": talk("What?", "Red.")}, SEEN]
    make_table(config_of(tmp_path, json.dumps(rows)), tmp_path / "cache")
    assert "d.json: 1 of its conversations have an image but no <image> tag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            '[{"id": ' + "9" * 6000 + ', "conversations": []}]',
            "line 1 column 2, record 0: a number with too",
        ),
        ("[" * 100_000, "line 1 column 2, record 0: nested too deep"),
        (
            json.dumps([{**TEXT, "conversations": talk("a \ud83d", "b")}]),
            r"record 0 \(id 1\): conversations\[0\]: half of",
        ),
        (json.dumps([{**SEEN, "image": "\ud83d.png"}]), r"record 0 \(id seen\): image: is '\\ud83d\.png'"),
    ],
    ids=["digits", "nested", "surrogate", "surrogate in a path"],
)
def test_what_no_file_can_hold_is_refused_by_file_and_record(tmp_path: Path, content: str, why: str):
    with pytest.raises(UserError, match=rf"d\.json: .*{why}|d\.json: {why}"):
        make_table(config_of(tmp_path, content), tmp_path / "cache")


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path):
    table = make_table(config_of(tmp_path, b"\xef\xbb\xbf" + json.dumps([TEXT]).encode()), tmp_path / "cache")
    assert open_table(table)["id"] == ["1"]


def test_a_fault_in_a_file_of_one_line_is_placed_by_column_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vrx.data.json_stream.CHUNK", 100)
    before = json.dumps([TEXT] * 30)[:-1]
    with pytest.raises(UserError, match=rf"line 1 column {len(before) + 4:,}, record 30: "):
        make_table(config_of(tmp_path, before + ", {'a': 1}]"), tmp_path / "cache")


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path):
    config = config_of(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 49\n")
    with pytest.raises(UserError, match=r"d\.json: a pointer of Git LFS, not the file itself; run: git lfs pull"):
        make_table(config, tmp_path / "cache")


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_an_absolute_path_in_the_image_folder_is_read_and_no_other(tmp_path: Path, policy: str):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    Image.new("RGB", (2, 2)).save(tmp_path / "real" / "a.png")
    for folder in ("link", "real"):
        row = {**SEEN, "image": str(tmp_path / folder / "a.png")}
        config = config_of(tmp_path, json.dumps([row]))
        config.on_bad_image, config.image_folder = policy, str(tmp_path / folder)
        assert open_table(make_table(config, tmp_path / "cache"))["image"] == [row["image"]]
        config.image_folder = str(tmp_path / "other")
        with pytest.raises(UserError, match=r"record 0 .*a\.png leaves the folder"):
            make_table(config, tmp_path / "cache")


def test_a_digest_note_of_another_form_is_written_again(tmp_path: Path):
    config = config_of(tmp_path, json.dumps([TEXT]))
    digest = data_digest(config, tmp_path / "cache")
    (note,) = (tmp_path / "cache").glob("digest-*.json")
    for content in ("null", "[]", '{"sha256": 5}'):
        note.write_text(content)
        assert data_digest(config, tmp_path / "cache") == digest
        assert json.loads(note.read_text())["sha256"] == digest
