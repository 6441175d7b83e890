"""Pictures come out of the packages with their names; names, styles, words and fonts of the tests are apart."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from support.small_world import STYLES, make_pictures, prepared_folder

from vrx.config.errors import UserError
from vrx.small.pictures import FOLDERS, SIDE, file_name, known_names, read_table, unpack_pictures
from vrx.small.stock import open_stocks


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def encoded(colour: tuple[int, ...], *, side: int, suffix: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (side, side), colour).save(file, "PNG" if suffix == ".png" else "WEBP", lossless=True)
    return file.getvalue()


@pytest.fixture
def packages(tmp_path: Path) -> tuple[dict[str, Path], Path]:
    """Three styles and the table of names; the first thing has no picture in one style."""
    originals = sorted(known_names().originals.values())
    codes = {name: f"1F{index:03X}-FE0F" for index, name in enumerate(originals)}
    rows = [{"annotation": name, "hexcode": code, "skintone": ""} for name, code in codes.items()]
    names = archive(tmp_path / "names.tgz", {"package/data/openmoji.json": json.dumps(rows).encode()})
    styles = {}
    for style in STYLES:
        folder, suffix = FOLDERS[style]
        side = 256 if style == "fluent" else SIDE
        content = encoded((STYLES.index(style), 9, 9, 255), side=side, suffix=suffix)
        code_of = (lambda code: code.lower()) if style == "noto" else (lambda code: code.lower().removesuffix("-fe0f"))
        shown = originals[1:] if style == "fluent" else originals
        files = {f"{folder}{code_of(codes[name])}{suffix}": content for name in shown}
        styles[style] = archive(tmp_path / f"{style}.tgz", files)
    return styles, names


def test_things_that_every_style_shows_are_unpacked(packages: tuple[dict[str, Path], Path], tmp_path: Path):
    unpack_pictures(*packages, tmp_path / "pictures")
    styles, names = read_table(tmp_path / "pictures")
    assert styles == sorted(STYLES)
    assert len(names) == len(known_names().category) - 1
    for style in STYLES:
        files = {path.name for path in (tmp_path / "pictures" / style).iterdir()}
        assert files == {file_name(name) for name in names}
        with Image.open(tmp_path / "pictures" / style / file_name(names[0])) as picture:
            assert (picture.size, picture.mode) == ((SIDE, SIDE), "RGBA")
            assert picture.getpixel((9, 9)) == (STYLES.index(style), 9, 9, 255)


def test_a_table_without_our_names_is_refused(packages: tuple[dict[str, Path], Path], tmp_path: Path):
    names = archive(tmp_path / "other.tgz", {"package/data/openmoji.json": b"[]"})
    with pytest.raises(UserError, match="has no emoji called"):
        unpack_pictures(packages[0], names, tmp_path / "pictures")


def test_names_are_distinct_and_traits_speak_of_known_names():
    names = known_names()
    assert len(names.originals) == len(names.category) > 300
    assert len(set(names.originals.values())) == len(names.originals)
    for trait, (has, lacks) in names.traits.items():
        assert has and lacks and not has & lacks, trait
        assert has | lacks <= names.category.keys(), trait


def test_what_is_new_in_the_tests_is_not_in_training(tmp_path: Path):
    stocks = open_stocks(make_pictures(tmp_path / "pictures"))
    for field in ("names", "words", "authors"):
        train, test, new = (set(getattr(stock, field)) for stock in (stocks.train, stocks.test, stocks.new))
        assert train == test and not train & new
        assert 0.15 < len(new) / len(train | new) < 0.3
    for field in ("styles", "fonts"):
        train, test, new = (set(getattr(stock, field)) for stock in (stocks.train, stocks.test, stocks.new))
        assert test == new and not train & test
    categories = set(known_names().category.values())
    assert {known_names().category[name] for name in stocks.new.names} == categories


def test_the_split_does_not_depend_on_the_order_of_the_table(tmp_path: Path):
    folder = make_pictures(tmp_path / "pictures")
    before = open_stocks(folder).new.names
    table = json.loads((folder / "pictures.json").read_text())
    (folder / "pictures.json").write_text(json.dumps({**table, "names": table["names"][::-1]}))
    assert open_stocks(folder).new.names == before


def test_the_prepared_pictures_are_many_and_differ_by_style():
    folder = prepared_folder() / "pictures"
    styles, names = read_table(folder)
    assert styles == sorted(STYLES) and len(names) >= 300
    stocks = open_stocks(folder)
    pictures = {style: stocks.train.picture("dog", style).tobytes() for style in STYLES}
    assert len(set(pictures.values())) == len(STYLES)
