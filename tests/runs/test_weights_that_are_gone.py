"""Names of weights that are neither folders here nor ids that a hub repository can have."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
from support.composing import composed

from vrx.config.errors import UserError
from vrx.runs.hub import cached_checkpoint, hub_commit, resolve_checkpoint, split_revision
from vrx.runs.identity import base_identity

NAMES = ("/gone/backbone", "/gone", "gone", "a b/c", "a--b/c", "-a/..b", "a..b/c", "x" * 100 + "/y")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_refused_by_key_and_name(name: str):
    with pytest.raises(UserError, match=rf"^model\.backbone={name}: no such folder, and no id of a hub repository$"):
        resolve_checkpoint("model.backbone", name)


@pytest.mark.parametrize("part", ["backbone", "vision_tower", "projector", "lvlm"])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_them_has_an_identity(part: str, name: str):
    """The run is named before its weights are looked for."""
    assert base_identity(composed([f"model.{part}='{name}'"]))["weights"][part] == name


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_cache_nor_the_hub_knows_them(name: str):
    assert cached_checkpoint(name) is None
    assert hub_commit(*split_revision(name)) is None


def test_a_revision_is_looked_for_in_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--a--b" / "refs"
    refs.mkdir(parents=True)
    (refs / "tag").write_text("c0ffee")
    (refs.parent / "outside").write_text("not a commit")
    assert hub_commit("a/b", "tag") == "c0ffee"
    assert hub_commit("a/b", "../outside") is None
