"""A training whose pictures were changed or deleted is not resumed, and its record is not taken for theirs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.data.images.digest import files_of_run, pictures_digest, recorded_pictures, require_same_pictures
from vrx.data.instructions import instruction_dataset
from vrx.runs.run_dir import RunDir


def replace(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"changed")


def same_size(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


@pytest.fixture
def begun(make_run, world: Path, tmp_path: Path):
    """A run of pictures in a folder of its own, which has a checkpoint."""
    images = Path(shutil.copytree(Path(make_run().instructions.image_folder) / "train", tmp_path / "images" / "train"))
    run = make_run(f"instructions.image_folder={images.parent}")
    digest = instruction_dataset.data_digest(run.instructions)
    table = instruction_dataset.build_table(run.instructions, tmp_path / "data", digest=digest)
    run_dir = RunDir(tmp_path / "run")
    (run_dir.checkpoints / "step-2").mkdir(parents=True)
    run_dir.data.write_text(json.dumps({"table": str(table), **recorded_pictures(run, table, tmp_path / "data")}))
    return run, run_dir.path, files_of_run(run, table)


@pytest.mark.parametrize("change", [Path.unlink, replace, same_size])
def test_a_changed_or_deleted_picture_is_noticed(begun, tmp_path: Path, change):
    run, run_dir, files = begun
    require_same_pictures(run, run_dir, tmp_path / "data")
    change(files[3])
    missing = f"{int(change is Path.unlink)} of {len(files)}"
    with pytest.raises(
        UserError, match=rf"^instructions\.image_folder: pictures were changed .*\({missing} are missing"
    ):
        require_same_pictures(run, run_dir, tmp_path / "data")
    (run_dir / "checkpoint" / "step-2").rmdir()
    require_same_pictures(run, run_dir, tmp_path / "data")  # a run that has not begun takes them


def test_the_same_pictures_elsewhere_and_of_another_time_are_the_same(begun, tmp_path: Path):
    _, _, files = begun
    before = pictures_digest(files, tmp_path / "data")
    copies = [Path(shutil.copy(file, tmp_path / file.name)) for file in files]
    assert pictures_digest(copies, tmp_path / "data") == before
    os.utime(files[0])
    assert pictures_digest(files, tmp_path / "data") == before
    assert pictures_digest(files[:-1], tmp_path / "data") != before


def test_a_run_of_an_earlier_version_is_not_checked(begun, tmp_path: Path):
    run, run_dir, files = begun
    data = json.loads(RunDir(run_dir).data.read_text())
    RunDir(run_dir).data.write_text(json.dumps({"table": data["table"]}))
    files[0].unlink()
    require_same_pictures(run, run_dir, tmp_path / "data")
