"""Errors for invalid instruction data name the file, the record and the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.instruction_data import SEEN, TOLD, Make, first, make_table, talk

from vrx.config.errors import UserError
from vrx.config.schema import InstructionsConfig
from vrx.data.instructions.instruction_dataset import data_digest, open_table

IN_RECORD = "record 1 (id bad): "
BAD: dict[str, tuple[Any, str]] = {
    "malformed": (f"[{json.dumps(SEEN)},\n", "not valid JSON, line 2"),
    "cut in a record": (f"[{json.dumps(SEEN)},\n" + json.dumps(TOLD)[:40], "not valid JSON, line 2"),
    "no comma": (
        f"[{json.dumps(SEEN)}\n{json.dumps(SEEN)}]",
        "not valid JSON, line 2 column 1, record 1: Expecting ',' delimiter",
    ),
    "more after the list": (f"[{json.dumps(SEEN)}]\n\n]", "not valid JSON, line 3 column 1, record 1: Extra data"),
    "no JSON": ("id,image\n", "not valid JSON, line 1"),
    "empty file": ("", "not valid JSON, line 1"),
    "not a list": ({"conversations": SEEN["conversations"]}, "must be a JSON list"),
    "empty list": ([], "must be a JSON list of conversations with at least one"),
    "not an object": ([SEEN, "text"], "record 1: not a JSON object"),
    "no conversations": (first(conversations=...), IN_RECORD + "conversations: missing or empty"),
    "no turns": (first(conversations=[]), IN_RECORD + "conversations: missing or empty"),
    "turns are text": (first(conversations="Hello"), IN_RECORD + "conversations: missing or empty"),
    "turn is text": (first(conversations=["Hello", "you"]), IN_RECORD + "conversations[0]: needs a text under `value`"),
    "turn without text": (first(conversations=[{"from": "human"}]), IN_RECORD + "conversations[0]: needs a text"),
    "turn of a number": (
        first(conversations=[*talk("<image>"), {"from": "gpt", "value": 4}]),
        IN_RECORD + "conversations[1]: needs a text under `value`",
    ),
    "answer alone": (
        first(conversations=talk("<image>", "Red.")[1:]),
        IN_RECORD + "conversations[0].from: is 'gpt', must be 'human'",
    ),
    "two questions": (
        first(conversations=talk("<image>", "Red.")[:1] * 2),
        IN_RECORD + "conversations[1].from: is 'human', must be 'gpt'",
    ),
    "no role": (first(conversations=[{"value": "Hello"}]), IN_RECORD + "conversations[0].from: is None"),
    "other role": (
        first(conversations=[{"from": "system", "value": "Be kind."}]),
        IN_RECORD + "conversations[0].from: is 'system'",
    ),
    "two tags": (first(conversations=talk("<image>\n<image>", "Red.")), IN_RECORD + "conversations: 2 <image> tags"),
    "tags in two turns": (
        first(conversations=talk("<image>", "Red.", "<image>", "Red.")),
        IN_RECORD + "conversations: 2 <image> tags for one image",
    ),
    "image is a number": (first(image=3), IN_RECORD + "image: is 3, must be one path"),
    "image is a list": (first(image=["a/red.png"]), IN_RECORD + "image: is ['a/red.png'], must be one path"),
    "image is empty": (first(image=""), IN_RECORD + "image: is '', must be one path"),
    "image leaves": (first(image="../outside.png"), IN_RECORD + "image: ../outside.png leaves the folder"),
    "image leaves by a detour": (first(image="a/../../outside.png"), IN_RECORD + "image: a/../../outside.png leaves"),
}
PECULIAR = {
    "begin with an answer, which is left out": talk("", "Hello!", "Who?", "I.")[1:],
    "end with a question: nothing is learned": talk("Two?", "Three.", "And?"),
    "have no image but an <image> tag in their text: the tag is taken as text": talk("<image>", "Red."),
    "end with an empty answer: nothing is learned": talk("Two?", "  \n"),
}
BAD_IMAGES = {"missing": "b.png", "text": "text.png", "no bytes": "empty.png", "a folder": "a"}


@pytest.mark.parametrize("kind", PECULIAR)
def test_peculiar_conversations_are_accepted_and_counted_in_a_message(make: Make, tmp_path: Path, kind: str, capsys):
    rows = open_table(make_table(make([SEEN, {"conversations": PECULIAR[kind]}, TOLD]), tmp_path / "cache"))
    assert json.loads(rows[1]["conversations"]) == PECULIAR[kind]
    assert f"data.json: 1 of its conversations {kind}" in capsys.readouterr().err


@pytest.mark.parametrize("case", BAD)
def test_invalid_record_is_refused_with_file_record_and_key(make: Make, tmp_path: Path, case: str):
    records, reason = BAD[case]
    config = make(records)
    with pytest.raises(ValueError) as refusal:
        make_table(config, tmp_path / "cache")
    assert str(refusal.value).startswith(f"{config.path}: {reason}")
    assert not list((tmp_path / "cache").rglob("*"))  # no partial table remains


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_image_is_refused_with_its_record_on_every_call(make: Make, tmp_path: Path, image: str):
    config = make(first(image=image))
    for _ in range(2):
        with pytest.raises(ValueError) as refusal:
            make_table(config, tmp_path / "cache")
        assert str(refusal.value).startswith(f"{config.path}: {IN_RECORD}image: ")


def test_file_that_is_not_utf8_is_refused_by_name(make: Make, tmp_path: Path):
    config = make([TOLD])
    Path(config.path or "").write_bytes(b'[{"id": "\xff"}]')
    with pytest.raises(ValueError, match=r"data\.json: not UTF-8"):
        make_table(config, tmp_path / "cache")


def test_image_without_an_image_folder_is_refused(make: Make, tmp_path: Path):
    with pytest.raises(ValueError, match=r"record 0 \(id seen\): image: is a/red\.png, but instructions\.image_folder"):
        make_table(make([SEEN], image_folder=None), tmp_path / "cache")


@pytest.mark.parametrize(
    ("image", "reason"), [("b.png", "b.png does not exist"), ("text.png", "text.png is not readable")]
)
def test_message_of_a_bad_image_names_the_file_and_the_policies(make: Make, tmp_path: Path, image: str, reason: str):
    with pytest.raises(ValueError, match=rf"{reason}.*instructions\.on_bad_image=skip or replace"):
        make_table(make(first(image=image)), tmp_path / "cache")


@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("image", ["b.png", "text.png"])
def test_bad_images_are_accepted_if_training_handles_them(make: Make, tmp_path: Path, policy: str, image: str):
    rows = open_table(make_table(make(first(image=image), on_bad_image=policy), tmp_path / "cache"))
    assert rows["image"][:] == ["a/red.png", image, None]


@pytest.mark.parametrize("policy", ["error", "skip", "replace"])
@pytest.mark.parametrize("image", ["../outside.png", "/etc/hostname", "a/../../outside.png"])
def test_image_path_outside_the_image_folder_is_refused_under_every_policy(
    make: Make, tmp_path: Path, image: str, policy: str
):
    with pytest.raises(ValueError, match="leaves the folder"):
        make_table(make(first(image=image), on_bad_image=policy), tmp_path / "cache")


def test_missing_instruction_file_is_refused_by_key(tmp_path: Path):
    with pytest.raises(ValueError, match=r"instructions\.path=null: name the instruction data"):
        data_digest(InstructionsConfig())
    with pytest.raises(UserError, match=r"instructions\.path=.*nowhere\.json: no such file"):
        data_digest(InstructionsConfig(path=str(tmp_path / "nowhere.json")))
