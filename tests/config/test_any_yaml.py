"""Whatever a run's YAML file holds, it is read or refused by name, in bounded time and without running code."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.config_runs import default
from support.mutations import UNREADABLE_YAML

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen, read_yaml

VALUES = (" nan", " [[1]]", " -1", " {a: 1}", " !!binary x", " 'a", " null", ' "\\ud800"', " ${oc.env:HOME}", " &a *a")


@pytest.mark.parametrize("kind", UNREADABLE_YAML)
def test_what_no_run_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(UNREADABLE_YAML[kind], encoding="utf-8")
    for read in (load_frozen, read_yaml) if kind != "maps in maps" else (load_frozen,):  # plain values may be deep
        with pytest.raises(UserError, match=r"config\.yaml: ") as refusal:
            read(path)
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "made_by_yaml").exists()


@settings(max_examples=12)
@given(data=st.data())
def test_any_frozen_run_is_read_or_refused_by_name(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    lines = default().splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    key = lines[place].partition(":")[0]
    changed = data.draw(st.sampled_from([*(f"{key}:{value}" for value in VALUES), "", "\t"]) | st.text(max_size=20))
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    text = "\n".join([*lines[:place], changed, *lines[place + 1 :]])
    path.write_bytes(data.draw(st.sampled_from([text.encode(errors="surrogatepass"), text.encode("utf-16")])))
    for read in (load_frozen, read_yaml):
        try:
            read(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
