"""Whatever bytes a file of data holds, a value is read from it or it is refused by name."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from support.instruction_data import GOOD, make_table
from support.mutations import mutated

from vrx.config.errors import BadImage, UserError
from vrx.config.paths import PACKAGE
from vrx.config.schema import InstructionsConfig
from vrx.data.conversations.files import stream_records
from vrx.data.conversations.records import read_record
from vrx.data.images.checks import image_error
from vrx.data.images.processing import open_rgb
from vrx.data.json_stream import stream_items
from vrx.data.tokenizers import load_tokenizer

FORMS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "DDS")
TEXT, SEEN = [{"type": "text", "text": "hi"}], [{"type": "image"}, {"type": "text", "text": "What?"}]
PLAIN: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": SEEN}, {"role": "assistant", "content": TEXT}], "images": ["a.png"]},
    {"messages": [{"role": "system", "content": "Be a cat"}, {"role": "user", "content": "hi"}]},
    {"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "x"}], "image": "/a.png"},
    {"id": 3, "texts": [{"user": "What?", "assistant": "x"}], "images": ["a.png"]},
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file that was cut, or has some bytes replaced or inserted."""
    place = draw(st.integers(0, len(content)))
    other = draw(st.binary(max_size=12))
    kept = draw(st.sampled_from([0, 0, len(other)]))  # cut, or replaced
    return content[:place] + other + (content[place + kept :] if draw(st.booleans()) else b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(max_examples=100)
@given(content=st.binary(max_size=80) | damaged(json.dumps(GOOD[:3]).encode()))
def test_any_bytes_are_the_list_that_json_reads_or_refused_by_name(folder: Path, content: bytes):
    path = folder / "list.json"
    path.write_bytes(content)
    try:
        items = list(stream_items(path))
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert items == json.loads(content.decode("utf-8-sig"))


@settings(max_examples=60)
@given(records=mutated(GOOD))
def test_any_instructions_are_converted_or_refused_by_name(folder: Path, records: Any):
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    config = InstructionsConfig(path=str(path), image_folder=str(folder), on_bad_image="skip")
    try:
        make_table(config, folder / "cache")
    except UserError as error:
        assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
@settings(max_examples=50)
@given(data=st.data())
def test_any_conversations_are_read_or_refused_by_name(folder: Path, ending: str, data: st.DataObject):
    path, records = folder / f"data.{ending}", data.draw(mutated(PLAIN))
    rows = [json.dumps(record).encode() for record in (records if isinstance(records, list) else [records])]
    content = b"\n".join(rows) if ending == "jsonl" else json.dumps(records).encode()
    if ending == "parquet":
        file = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(PLAIN[:1]), file)
        content = file.getvalue()
    path.write_bytes(data.draw(damaged(content)) if ending == "parquet" or data.draw(st.booleans()) else content)
    try:
        for name, record in stream_records([path], lambda _: None):
            assert read_record(record, name, Counter()).messages
    except UserError as error:
        assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(data=st.data())
def test_any_picture_is_decoded_or_a_bad_image_and_the_check_knows(folder: Path, form: str, data: st.DataObject):
    pixels = np.random.RandomState(0).randint(0, 255, (9, 14, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    path = folder / f"picture.{form.lower()}"
    path.write_bytes(data.draw(damaged(file.getvalue())))
    found = image_error(path, decode=True)
    try:
        assert open_rgb(path).mode == "RGB"
    except BadImage as error:
        assert str(path) in str(error)
        assert found is not None
    else:
        assert found is None


BAD_TOKENIZERS: dict[str, dict[str, Any]] = {  # settings in which only the first text fails, beside those at once
    "longest text an object": {"model_max_length": {"a": []}},
    "longest text a text": {"model_max_length": "many"},
    "padding a list": {"pad_token": [1]},
}


@pytest.mark.parametrize("kind", BAD_TOKENIZERS)
def test_a_tokenizer_that_no_text_can_be_read_with_is_refused_by_name(tmp_path: Path, kind: str):
    weights = PACKAGE / "tiny" / "weights"
    settings = json.loads((weights / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer.json").write_bytes((weights / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, **BAD_TOKENIZERS[kind]}))
    with pytest.raises(UserError, match=f"^{tmp_path}: cannot be read as a tokenizer: "):
        load_tokenizer(tmp_path, "tiny")
