"""Conversations of several layouts and file types: one form, whichever they come in, and refusals by name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tests.support.chat_formats import noise, turn
from vrx.config.errors import UserError
from vrx.config.instruction_sources import InstructionsConfig
from vrx.data.conversations.conversation_mixture import MixedRows
from vrx.data.conversations.conversation_table import build_mixture, mixture_digest

QUESTION, ANSWER, MORE, LAST = "what is it ?", "a cat", "why ?", "it is red"
MESSAGES = [turn("user", "<image>", QUESTION), turn("assistant", ANSWER), turn("user", MORE), turn("assistant", LAST)]


def picture(seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise(20, 30, seed=seed).save(file, "PNG")
    return file.getvalue()


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


LLAVA = [
    {"from": "human", "value": f"<image>\n{QUESTION}"},
    {"from": "gpt", "value": ANSWER},
    {"from": "human", "value": MORE},
    {"from": "gpt", "value": LAST},
]
TEXT = [say("assistant", ANSWER), say("user", MORE), say("assistant", LAST)]
LISTS = [say(message["role"], [{"type": "text", "text": message["content"]}]) for message in TEXT]
PARTS = [{"type": "image"}, {"type": "text", "text": QUESTION}]
OWN_FILE = [{"type": "image", "image": "a.png"}, {"type": "text", "text": QUESTION}]
PAIRS = [{"user": QUESTION, "assistant": ANSWER, "source": "x"}, {"user": MORE, "assistant": LAST, "source": "x"}]
SAME: dict[str, dict[str, Any]] = {
    "LLaVA": {"image": "a.png", "conversations": LLAVA},
    "LLaVA with a list": {"id": 3, "image": ["a.png"], "conversations": LLAVA, "source": "coco"},
    "messages with a tag": {"images": ["a.png"], "messages": [say("user", f"<image>{QUESTION}"), *TEXT]},
    "messages with parts": {"images": ["a.png"], "messages": [say("user", PARTS), *LISTS]},
    "parts with files": {"messages": [say("user", OWN_FILE), *LISTS]},
    "pairs": {"images": ["a.png"], "texts": PAIRS},
    "pairs with pictures": {
        "images": [{"bytes": picture(), "path": None}],
        "texts": PAIRS,
        "relevance_ratings": [5, 4],
    },
    "messages with pictures": {"images": [{"bytes": picture()}], "messages": [say("user", PARTS), *LISTS]},
}
Write = Callable[[list[Any], str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(picture())
    (tmp_path / "images" / "b.png").write_bytes(picture(1))

    def write_file(records: list[Any], suffix: str) -> Path:
        path = tmp_path / f"data.{suffix}"
        if suffix == "parquet":
            parquet.write_table(pyarrow.Table.from_pylist(records), path)
        else:
            lines = [json.dumps(record) for record in records]
            path.write_text("\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
        return path

    return write_file


def convert(path: Path, **keys: Any) -> MixedRows:
    config = InstructionsConfig(path=str(path), image_folder=str(path.parent / "images"), **keys)
    return convert_all(config, path.parent / "cache")


def convert_all(config: InstructionsConfig, cache: Path) -> MixedRows:
    return MixedRows(build_mixture(config, cache, digest=mixture_digest(config, cache)))


def is_plain(record: dict[str, Any]) -> bool:
    return "pictures" not in next(name for name, value in SAME.items() if value is record)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("layout", SAME)
def test_layouts_and_files_give_the_same_conversation(write: Write, layout: str, suffix: str) -> None:
    record = SAME[layout]
    if suffix != "parquet" and not is_plain(record):
        pytest.skip("JSON holds no picture")
    row = convert(write([record, record], suffix))[1]
    assert row.messages == MESSAGES
    assert [file.read_bytes() for file in row.pictures] == [picture()]


def test_system_turns_and_several_pictures_are_kept_in_their_order(write: Write) -> None:
    record = {
        "images": ["b.png", "a.png"],
        "messages": [
            say("system", "Be a cat ."),
            say("user", "<image> and <image>\nare ?"),
            say("assistant", "cats"),
        ],
    }
    row = convert(write([record], "jsonl"))[0]
    assert [file.name for file in row.pictures] == ["b.png", "a.png"]
    expected = turn("user", "<image>", " and ", "<image>", "are ?")
    assert row.messages == [turn("system", "Be a cat ."), expected, turn("assistant", "cats")]


BAD: dict[str, tuple[Any, str]] = {
    "more pictures than tags": (
        {"image": ["a.png", "b.png"], "conversations": LLAVA},
        "record 1: image: 2 pictures, but 1 <image> tags or picture parts",
    ),
    "no tag": ({"image": "a.png", "conversations": LLAVA[2:]}, "record 1: image: 1 pictures, but 0 <image> tags"),
    "more tags than pictures": (
        {"images": ["a.png"], "messages": [say("user", "<image><image>"), *TEXT]},
        r"record 1: messages\[0\].content: has more <image> tags or picture parts than the record has pictures",
    ),
    "tag without picture": (
        {"messages": [say("user", f"<image>{QUESTION}"), *TEXT]},
        r"record 1: messages\[0\].content: has an <image> tag, but the record has no picture",
    ),
    "a video": ({"video": "a.mp4", "conversations": LLAVA}, "record 1: video: videos and sounds are not trained on"),
    "videos": ({"videos": ["a.mp4"], "messages": TEXT}, "record 1: videos: videos and sounds are not trained on"),
    "a video part": (
        {"messages": [say("user", [{"type": "video", "video": "a.mp4"}]), *TEXT]},
        r"record 1: messages\[0\].content\[0\]: is of type 'video', valid are text and image",
    ),
    "a tool": (
        {"messages": [say("user", "hi"), say("tool", "4")]},
        r"record 1: messages\[1\].role: is 'tool', valid are user, assistant, system",
    ),
    "a tool call": (
        {"messages": [say("user", "hi"), {**say("assistant", "a"), "tool_calls": [1]}]},
        r"record 1: messages\[1\].tool_calls: a key of no meaning here",
    ),
    "two questions": (
        {"messages": [say("user", "hi"), say("user", "hi")]},
        r"record 1: messages\[1\]: is of user, must be of assistant: they alternate",
    ),
    "answer first": ({"messages": TEXT}, r"record 1: messages\[0\]: is of assistant, must be of user"),
    "system alone": ({"messages": [say("system", "a")]}, "record 1: messages: has a system turn alone"),
    "picture in an answer": (
        {"images": ["a.png"], "messages": [say("user", "hi"), say("assistant", PARTS)]},
        r"record 1: messages\[1\]: a picture in a turn of assistant",
    ),
    "an address": (
        {"images": ["https://x.org/a.png"], "messages": [say("user", PARTS), *TEXT]},
        "record 1: images: is https://x.org/a.png, an address",
    ),
    "outside": (
        {"images": ["../a.png"], "messages": [say("user", PARTS), *TEXT]},
        r"record 1: images: \.\./a.png leaves the folder",
    ),
    "no turns": ({"id": "x", "image": "a.png"}, r"record 1 \(id x\): messages: missing; valid is one of messages"),
    "unknown key": ({"messages": TEXT, "boxes": [1]}, "record 1: boxes: a key of no meaning here"),
    "not an object": (["a"], "record 1: not a JSON object"),
    "absolute, outside": (
        {"images": ["/b/a.png"], "messages": [say("user", PARTS), *TEXT]},
        "record 1: images: /b/a.png leaves the folder",
    ),
    "missing file": (
        {"images": ["c.png"], "messages": [say("user", PARTS), *TEXT]},
        r"record 1: images: .*c.png does not exist \(instructions.on_bad_image=skip",
    ),
}


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_an_absolute_path_in_the_image_folder_is_read_and_no_other(write: Write, tmp_path: Path, policy: str) -> None:
    path = write([{"image": str(tmp_path / "images" / "a.png"), "messages": [say("user", PARTS), *TEXT]}], "json")
    assert convert(path, on_bad_image=policy)[0].pictures == [tmp_path / "images" / "a.png"]
    config = InstructionsConfig(path=str(path), image_folder=str(tmp_path), on_bad_image=policy)
    assert convert_all(config, tmp_path / "cache")[0].pictures == [tmp_path / "images" / "a.png"]
    config.image_folder = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"record 0: images: .*a\.png leaves the folder"):
        convert_all(config, tmp_path / "cache")


@pytest.mark.parametrize("kind", BAD)
def test_invalid_record_is_refused_by_file_record_and_key(write: Write, kind: str) -> None:
    record, message = BAD[kind]
    path = write([SAME["LLaVA"], record], "jsonl")
    with pytest.raises(UserError, match=f"^{path}: {message}"):
        convert(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"messages": [1}', "line 1: not valid JSON"),
        ("\n\n{", "line 3: not valid JSON"),
        (b"\xff\xfe", "line 1: not UTF-8"),
    ],
)
def test_invalid_line_is_refused_by_its_number(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=f"^{path}: {message}"):
        convert(path)


def test_damaged_parquet_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"data.parquet: cannot be read as Parquet"):
        convert(tmp_path / "data.parquet")
    (tmp_path / "data.csv").write_text("a,b", encoding="utf-8")
    with pytest.raises(UserError, match=r"instructions.path=.*data.csv: valid are files that end in .json, .jsonl"):
        convert(tmp_path / "data.csv")


def test_file_without_a_conversation_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match="holds no conversation"):
        convert(write([], "jsonl"))
