"""Names and texts of others as paths: always one file or folder, always inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vrx.config.errors import UserError
from vrx.config.paths import as_file_name, below, refuse_foreign_folder


@given(st.text(max_size=400))
@example("..")
@example("a/../../b")
@example("a\0b")
@example("x" * 400)
@example("")
def test_any_text_is_one_name_below_the_root(text: str):
    path = below(Path("/root/of/all"), text)
    assert path.parent == Path("/root/of/all") and path.name not in ("", ".", "..")
    assert len(path.name.encode()) <= 255 and "\0" not in path.name


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_texts_have_different_names(one: str, other: str):
    assert (as_file_name(one) == as_file_name(other)) == (one == other)


def test_an_ordinary_name_stays():
    for name in ("bunny-llama3-8b", "llava-1.5-7b", "sparse_uniform-8_100pct_seed0_1a2b3c4d"):
        assert as_file_name(name) == name


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path):
    foreign, ours, empty, file = (tmp_path / name for name in ("foreign", "ours", "empty", "file"))
    for folder in (foreign, ours, empty):
        folder.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    (ours / "world.json").write_text("{}")
    file.write_text("mine")
    for folder in (ours, empty, tmp_path / "new"):
        refuse_foreign_folder(folder, "world.json", key="world.folder")
    for folder in (foreign, file):
        with pytest.raises(UserError, match=r"^world\.folder=.*: holds files that vrx did not make"):
            refuse_foreign_folder(folder, "world.json", key="world.folder")
