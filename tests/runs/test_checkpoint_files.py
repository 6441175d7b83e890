"""The manifest of a checkpoint: what is damaged is refused by name, and the checkpoint before it is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrx.config.errors import UserError
from vrx.runs.checkpoint_files import LOG, WEIGHTS, Position, drop_damaged, drop_old, read_position, write_position
from vrx.runs.files import file_digest

FILES = (WEIGHTS, "optimizer-0.safetensors", "optimizer-1.safetensors", LOG)


def checkpoint(run_dir: Path, step: int) -> Path:
    folder = run_dir / "checkpoint" / f"step-{step}"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(f"{name} of step {step}".encode())
    write_position(folder, Position(step, 2, {name: file_digest(folder / name) for name in FILES}, [{"threads": 1}]))
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("name", [*FILES, "position.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["a flipped bit", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path, name: str, damage):
    before, newest, lines = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4), []
    damage(newest / name)
    drop_damaged(tmp_path, lines.append)
    (line,) = lines
    assert f"step-4/{name}: damaged" in line and line.endswith("going on from step-2")
    assert not newest.exists() and before.is_dir()


def test_sound_checkpoints_are_left_alone_in_silence(tmp_path: Path):
    folders, lines = [checkpoint(tmp_path, step) for step in (2, 10)], []
    drop_damaged(tmp_path, lines.append)
    drop_damaged(tmp_path / "new run", lines.append)
    assert lines == [] and all(folder.is_dir() for folder in folders)


def test_without_a_sound_checkpoint_nothing_is_deleted_and_the_command_says_what_to_delete(tmp_path: Path):
    folders = [checkpoint(tmp_path, step) for step in (2, 4)]
    for folder in folders:
        flip(folder / WEIGHTS)
    with pytest.raises(
        UserError, match=rf"step-4/{WEIGHTS}: damaged .*; delete .*/checkpoint to train from the start$"
    ):
        drop_damaged(tmp_path, print)
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("step", [99, 0, -2, 2.5, "2", None, True])
@pytest.mark.parametrize("with_digest", [True, False])
def test_a_nonsense_position_is_refused(tmp_path: Path, step: object, with_digest: bool):
    folder = checkpoint(tmp_path, 2)
    content = json.loads((folder / "position.json").read_text()) | {"step": step}
    kept = content if with_digest else {"step": step, "processes": 1}
    (folder / "position.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"position\.json: damaged"):
        read_position(folder)


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_as_position_are_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.getbasetemp() / "step-2"
    folder.mkdir(exist_ok=True)
    (folder / "position.json").write_bytes(content)
    with pytest.raises(UserError, match=r"position\.json"):
        read_position(folder)


def test_a_checkpoint_of_an_earlier_version_is_taken_without_digests(tmp_path: Path):
    folder = checkpoint(tmp_path, 2)
    (folder / "position.json").write_text('{"step": 2, "processes": 2}')
    drop_damaged(tmp_path, print)
    assert read_position(folder).step == 2


def test_the_two_newest_are_kept(tmp_path: Path):
    for step in (2, 4, 10, 12):
        checkpoint(tmp_path, step)
    drop_old(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["step-10", "step-12"]
