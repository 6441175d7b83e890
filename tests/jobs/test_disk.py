"""A disk that is full, a folder that takes no files, a record that is none: one line each, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.whole_runs import PLAIN, adapter, curve, run_dir

from vrx.config.errors import disk_error_message
from vrx.runs import files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 12 MB; what the tests write elsewhere is not on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root, and not in every container")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Take the disk's room but for some bytes."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(b"\0" * max(0, space.f_bavail * space.f_frsize - leave))
    return ballast


def complaint(told: subprocess.CompletedProcess) -> str:
    assert told.returncode == 2 and "Traceback" not in told.stderr, told.stderr
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("vrx: ") and "the same command" in line]
    return line


# ---- full and unwritable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "no", "a/b"), "a/b: No space left on device; make room there"),
        (PermissionError(errno.EACCES, "no", "a/b"), "a/b: Permission denied; valid is a folder that can be written"),
        (RuntimeError("Error while serializing: I/O error: … (os error 28)"), "place: No space left on device; make"),
        (ConnectionResetError(errno.ECONNRESET, "no"), None),
        (ValueError("no"), None),
    ],
)
def test_a_disks_refusal_is_told_from_other_errors(error: Exception, said: str | None):
    told = disk_error_message(error, Path("place"))
    assert told is None if said is None else told is not None and told.startswith(said)


def test_a_file_that_does_not_fit_is_named_and_leaves_nothing(small_disk: Path):
    files.write_json(small_disk / "record.json", {"whole": True})
    fill(small_disk, leave=0)
    with pytest.raises(OSError) as caught:
        files.write_atomic(small_disk / "record.json", b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(small_disk / "record.json")
    assert files.read_json(small_disk / "record.json") == {"whole": True}
    assert {path.name for path in small_disk.iterdir()} == {"record.json", "ballast"}


@pytest.mark.parametrize("command", [PLAIN, ("sweep=smoke", *PLAIN), ("job=evaluate", PLAIN[-1])])
def test_a_file_in_place_of_the_output_folder_is_one_line(vrx: Callable[..., Any], tmp_path: Path, command):
    (tmp_path / "outputs").write_text("a file")
    told = vrx(*command)
    assert told.returncode == 2 and "Traceback" not in told.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("vrx: ")]
    assert lines and all("outputs" in line and "runtime.output_root" in line for line in lines), told.stderr


def test_a_read_only_disk_is_one_line(vrx: Callable[..., Any], small_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    told = vrx(*PLAIN, f"runtime.output_root={small_disk}/outputs")
    assert "Read-only file system; valid is a folder that can be written to" in complaint(told)


@pytest.mark.slow
@pytest.mark.parametrize("leave", [4_000, 30_000, 200_000, 1_500_000])
def test_a_run_that_filled_the_disk_ends_bit_equal_once_there_is_room(
    undisturbed: Path, vrx: Callable[..., Any], small_disk: Path, leave: int
):
    full = small_disk / "full"
    full.mkdir()
    command = (*PLAIN, f"world.folder={undisturbed}/outputs/data/tiny", "wandb.mode=offline")
    ballast = fill(small_disk, leave=leave)
    line = complaint(vrx(*command, cwd=full))
    assert "No space left on device; make room there" in line and str(small_disk) in line
    ballast.unlink()
    told = vrx(*command, cwd=full)
    assert told.returncode == 0, told.stderr
    ours, calm = run_dir(full), run_dir(undisturbed)
    assert curve(ours) == curve(calm) and adapter(ours) == adapter(calm)
    scores = [json.loads((folder / "record.json").read_text())["scores"] for folder in (ours, calm)]
    assert scores[0] == scores[1]
