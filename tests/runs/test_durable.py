"""Files that survive kills and losses of power: what is synced before what, and what killed commands leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vrx.runs import durable
from vrx.runs.durable import partial_file, partial_folder, put_in_place, remove_abandoned, remove_leftovers
from vrx.runs.files import write_atomic
from vrx.runs.locks import exclusive_lock
from vrx.runs.run_dir import RunDir

NO_PROCESS = 2**22 + 1  # beyond the largest number of a process on Linux


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is synced and renamed, in order."""
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(file: int) -> None:
        name = Path(f"/proc/self/fd/{file}").readlink().name
        happened.append(f"sync {name}")
        fsync(file)

    def recorded_replace(self: Path, target: Path) -> Path:
        happened.append(f"rename to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    return happened


def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_afterwards(tmp_path: Path, events: list[str]):
    write_atomic(tmp_path / "a.json", "1")
    partial = partial_file(tmp_path / "a.json").name
    assert events == [f"sync {partial}", "rename to a.json", f"sync {tmp_path.name}"]


def test_a_folder_is_synced_before_it_gets_its_name_and_what_it_replaces_goes_last(tmp_path: Path, events: list[str]):
    folder = tmp_path / "adapter"
    for content in ("old", "new"):
        partial = partial_folder(folder)
        (partial / "sub").mkdir(parents=True)
        (partial / "sub" / "weights").write_text(content)
        events.clear()
        put_in_place(partial, folder)
    assert (
        set(events[:3]) == {"sync weights", "sync sub", f"sync {partial.name}"} and events[2] == f"sync {partial.name}"
    )
    assert events[3:] == ["rename to .adapter.replaced.partial", "rename to adapter", f"sync {tmp_path.name}"]
    assert (folder / "sub" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_many_files_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[str]):
    monkeypatch.setattr(os, "sync", lambda: events.append("sync all"))
    partial = partial_folder(tmp_path / "world")
    partial.mkdir()
    for number in range(durable.MANY_FILES):
        (partial / f"{number}.png").touch()
    put_in_place(partial, tmp_path / "world")
    assert events == ["sync all", "rename to world", f"sync {tmp_path.name}"]


def test_partial_files_of_killed_processes_are_deleted_and_those_of_others_stay(tmp_path: Path):
    mine, other = partial_file(tmp_path / "a.json"), tmp_path / ".b.json.0.1.partial"
    killed = tmp_path / f".a.json.{durable.MACHINE}.{NO_PROCESS}.partial"
    elsewhere = tmp_path / f".a.json.ffffffff.{NO_PROCESS}.partial"
    old = tmp_path / f".a.json.{NO_PROCESS}.partial"  # as an earlier version named it
    for path in (mine, other, killed, elsewhere, old):
        path.touch()
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path / "a.json")
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, elsewhere])


def test_whoever_holds_the_lock_of_a_run_deletes_what_killed_commands_left(tmp_path: Path):
    run_dir = RunDir(tmp_path)
    for folder in (run_dir.answers, run_dir.checkpoints / ".step-4.partial", run_dir.checkpoints / "step-2"):
        folder.mkdir(parents=True)
    for path in (tmp_path / ".record.json.0.1.partial", run_dir.answers / ".gqa.jsonl.0.1.partial", run_dir.train_log):
        path.touch()
    with exclusive_lock(tmp_path):
        left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == [".lock", "answers", "checkpoint", "checkpoint/step-2", "train.jsonl"]


@pytest.mark.parametrize("result", ["adapter", "projector"])
def test_checkpoints_of_a_finished_training_are_deleted(tmp_path: Path, result: str):
    run_dir = RunDir(tmp_path)
    (run_dir.checkpoints / "step-2").mkdir(parents=True)
    run_dir.train_summary.touch()
    remove_leftovers(tmp_path)
    assert run_dir.checkpoints.is_dir()  # without the result they are all there is
    (tmp_path / result).mkdir()
    remove_leftovers(tmp_path)
    assert not run_dir.checkpoints.exists()
