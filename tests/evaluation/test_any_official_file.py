"""Whatever the files of an official download hold, they are read or refused in one line that names the benchmark."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mutations import mutated
from support.official_files import OFFICIAL

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.benchmarks import samples

DOCUMENTS = {"pile10k": ({"pile10k.jsonl": {"text": "a b", "meta": {"pile_set_name": "x"}}}, [])}
DOCUMENTS |= {"wikitext": ({"wiki.test.raw": " = A = \n \n b c \n"}, [])}
FORMS: dict[str, Any] = {**OFFICIAL, **DOCUMENTS}


def plain(content: Any) -> Any:
    """The content of a file as a value of JSON, where it is one or a pickle of one."""
    return pickle.loads(content) if isinstance(content, bytes) else content


def packed(content: Any, form: Any) -> bytes:
    """A changed value in the form of its file."""
    if isinstance(form, bytes):
        return pickle.dumps(content, protocol=2)
    return json.dumps(content).encode() if not isinstance(content, str) else content.encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("official")


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=15)
@given(data=st.data())
def test_any_official_file_is_read_or_refused_by_name(
    name: str, configs: dict[str, BenchmarkConfig], folder: Path, data: st.DataObject
):
    files = {file: form for file, form in FORMS[name][0].items() if not file.startswith(("images", "documents"))}
    changed = data.draw(st.sampled_from(sorted(files)))
    shutil.rmtree(folder, ignore_errors=True)
    for file, form in FORMS[name][0].items():
        content = form if isinstance(form, bytes) else packed(form, form)
        if file == changed:
            anything = st.binary(max_size=60) | st.just(content[:-7])
            content = data.draw(mutated(plain(form)).map(lambda value, form=form: packed(value, form)) | anything)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    config = dataclasses.replace(configs[name], path=str(folder), cache=str(folder / "cache"))
    try:
        assert samples(name, config, limit=None)
    except UserError as error:
        assert name in str(error) or changed in str(error)
        assert "\n" not in str(error)
