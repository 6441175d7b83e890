"""A finished run whose base weights were moved is evaluated with those that the command names, if they are the same."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from support.composing import composed

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig, RunConfig
from vrx.runs.identity import Identity, base_identity
from vrx.runs.moved_weights import with_moved_weights


@pytest.fixture
def moved(tmp_path: Path) -> tuple[RunConfig, Identity, ModelConfig]:
    """A run whose backbone and tokenizer lie no longer where they were, its identity, and the model at present."""
    before, after = tmp_path / "before", tmp_path / "after"
    embedded = composed([]).model
    shutil.copytree(resolve_path(embedded.backbone), before / "backbone")
    shutil.copytree(resolve_path(embedded.tokenizer or ""), before / "tokenizer")
    overrides = [f"model.{part}={{}}/{part}" for part in ("backbone", "tokenizer")]
    frozen, present = (composed([override.format(root) for override in overrides]) for root in (before, after))
    identity = base_identity(frozen)
    before.rename(after)
    return frozen, identity, present.model


def test_weights_that_still_exist_are_kept():
    run = composed([])
    assert with_moved_weights(run, base_identity(run), ModelConfig(), run_dir=Path("run")) is run


def test_moved_weights_are_those_of_the_command(moved: tuple[RunConfig, Identity, ModelConfig]):
    frozen, identity, present = moved
    assert with_moved_weights(frozen, identity, present, run_dir=Path("run")).model == present


def test_moved_weights_of_a_first_version_run_are_compared_without_contents(
    moved: tuple[RunConfig, Identity, ModelConfig],
):
    frozen, identity, present = moved
    first = {key: value for key, value in identity.items() if key != "contents"}
    assert with_moved_weights(frozen, first, present, run_dir=Path("run")).model == present


@pytest.mark.parametrize("part", ["backbone", "tokenizer"])
def test_other_weights_are_refused_in_one_line(moved: tuple[RunConfig, Identity, ModelConfig], part: str):
    frozen, identity, present = moved
    for file in Path(getattr(present, part)).iterdir():
        if file.is_file():
            file.write_bytes(b" " + file.read_bytes())
    with pytest.raises(UserError, match=rf"its {part}, .*/before/{part}, is gone and model\.{part}=") as caught:
        with_moved_weights(frozen, identity, present, run_dir=Path("run"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["/gone/backbone", "gone", "", "a folder/with blanks"])
def test_weights_that_are_not_where_the_command_says_are_refused(
    moved: tuple[RunConfig, Identity, ModelConfig], named: str
):
    frozen, identity, present = moved
    elsewhere = dataclasses.replace(present, backbone=named)
    with pytest.raises(UserError, match=rf"is gone and model\.backbone={named} is not there either; name its folder"):
        with_moved_weights(frozen, identity, elsewhere, run_dir=Path("run"))
