"""Whatever a run's YAML file holds, it is read or refused by name, in bounded time and without running code."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.config_runs import default

from vrx.config.errors import UserError
from vrx.config.frozen import load_frozen, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)
NOT_READ = {
    "alias bomb": BOMB,
    "code": "model: !!python/object/apply:os.mkdir [made_by_yaml]\n",
    "a name of code": "model: !!python/name:os.system\n",
    "lists in lists": "[" * 3_000,
    "maps in maps": "{a: " * 5_000 + "1" + "}" * 5_000,
    "NUL": "model: a\0b\n",
    "many digits": f"seed: {'9' * 5000}\n",
    "two documents": "a: 1\n---\nb: 2\n",
}
VALUES = (" nan", " [[1]]", " -1", " {a: 1}", " !!binary x", " 'a", " null", ' "\\ud800"', " ${oc.env:HOME}", " &a *a")


@pytest.mark.parametrize("kind", NOT_READ)
def test_what_no_run_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(NOT_READ[kind], encoding="utf-8")
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
