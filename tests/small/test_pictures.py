"""Pictures come out of the packages with their names; names, styles, words and fonts of the tests are apart."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.small_world import STYLES, make_pictures, prepared_folder

from vrx.config.errors import UserError
from vrx.runs.files import read_json, write_json
from vrx.small.packages import PICTURES
from vrx.small.pictures import ICONS, MIN_STYLES, SIDE, TABLE, file_name, known_names, read_table, unpack_pictures
from vrx.small.stock import open_stocks

RED = (200, 30, 40, 255)


def package(path: Path, table: dict[str, Any] | None) -> Path:
    """An npm package with a table of icons, or with another file."""
    content = json.dumps(table or {}).encode()
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(ICONS if table else "package/package.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def square(colour: str) -> dict[str, str]:
    return {"body": f'<path fill="{colour}" d="M4 4h24v24h-24z"/>'}


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path]:
    """Six styles of 32 pixels. The first thing is in four of them, the second in five, the third as an alias."""
    first, second, third, *others = [name.replace(" ", "-") for name in sorted(known_names().originals.values())]
    packages = {}
    for number in range(6):
        icons = {name: square("rgb(200,30,40)") for name in others}
        icons |= {first: square("red")} if number < 4 else {}
        icons |= {second: square("red")} if number < 5 else {}
        table = {"icons": {**icons, "other": square("red")}, "aliases": {third: {"parent": "other"}}, "width": 32}
        packages[f"style_{number}"] = package(tmp_path / f"{number}.tgz", {**table, "height": 32})
    return packages


def test_things_that_five_styles_show_are_drawn(packages: dict[str, Path], tmp_path: Path):
    pytest.importorskip("resvg_py", reason="needs pip install 'vrx[small]'")
    unpack_pictures(packages, tmp_path / "pictures")
    table = read_table(tmp_path / "pictures")
    _, second, third, *others = sorted(known_names().originals, key=known_names().originals.__getitem__)
    assert table == {second: list(packages)[:5], **{name: list(packages) for name in (third, *others)}}
    for style in packages:
        files = {path.name for path in (tmp_path / "pictures" / style).iterdir()}
        assert files == {file_name(name) for name, styles in table.items() if style in styles}
    with Image.open(tmp_path / "pictures" / "style_5" / file_name(others[0])) as picture:
        assert (picture.size, picture.mode) == ((SIDE, SIDE), "RGBA")
        assert picture.getpixel((1, SIDE // 2)) == (0, 0, 0, 0)
        assert picture.getpixel((SIDE // 2, SIDE // 2)) == RED


def test_a_package_without_icons_is_refused(packages: dict[str, Path], tmp_path: Path):
    other = package(tmp_path / "other.tgz", None)
    with pytest.raises(UserError, match=f"other.tgz: has no {ICONS}"):
        unpack_pictures({**packages, "other": other}, tmp_path / "pictures")


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
    assert stocks.test.fonts == stocks.new.fonts and not set(stocks.train.fonts) & set(stocks.test.fonts)
    for name in stocks.train.names:
        (kept,) = stocks.test.styles[name]
        assert {kept, *stocks.train.styles[name]} == set(STYLES) and kept not in stocks.train.styles[name]
    kept = Counter(stocks.test.styles[name] for name in stocks.test.names)
    assert min(kept.values()) > 0.5 * max(kept.values()), "every style is about as frequent in the tests"
    expected = len(stocks.test.names) / len(STYLES)
    chi_square = sum((number - expected) ** 2 / expected for number in kept.values())
    assert len(kept) == len(STYLES) and chi_square < 13.28, (
        "every style is as frequent in the tests, but for chance (1 %)"
    )
    categories = set(known_names().category.values())
    assert {known_names().category[name] for name in stocks.new.names} == categories


def test_the_split_does_not_depend_on_the_order_of_the_table(tmp_path: Path):
    folder = make_pictures(tmp_path / "pictures")
    before = open_stocks(folder).new.names
    table = read_json(folder / TABLE)["styles"]
    write_json(folder / TABLE, {"styles": dict(reversed(table.items()))})
    assert open_stocks(folder).new.names == before


@pytest.mark.parametrize("styles", [["noto"], {"dog": ["noto", "twemoji"]}], ids=["a list", "a thing of few styles"])
def test_pictures_of_an_older_vrx_are_refused(tmp_path: Path, styles: object):
    write_json(tmp_path / TABLE, {"styles": styles})
    with pytest.raises(UserError, match=r"made by an older vrx; remove this folder, then run python -m vrx\.small"):
        open_stocks(tmp_path)


def test_the_prepared_pictures_are_many_and_differ_by_style():
    folder = prepared_folder() / "pictures"
    table = read_table(folder)
    assert len(table) >= 200 and {style for styles in table.values() for style in styles} == set(PICTURES)
    pictures = {style: open_stocks(folder).train.picture("dog", style).tobytes() for style in table["dog"]}
    assert len(set(pictures.values())) == len(pictures) >= MIN_STYLES
