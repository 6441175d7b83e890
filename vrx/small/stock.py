"""What scenes are made of: pictures, words and fonts, split into those to learn from and those to test on.

Of each thing one picture, in one of the art styles, is kept for the tests, as the font of the tests is. A fifth of the
names and words is kept from training, too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image, ImageFont

from vrx.small.pictures import NAMES_FILE, file_name, known_names, read_table

TRAIN_FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf")
TEST_FONTS = ("DejaVuSerif-Bold.ttf",)
NEW_SHARE = 5  # one name in five is new in the tests


@dataclass(frozen=True)
class Stock:
    """The names, words and authors that scenes may use, the styles of each name, the fonts, and the pictures."""

    names: tuple[str, ...]
    styles: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    authors: tuple[str, ...]
    fonts: tuple[str, ...]
    folder: Path

    def others(self, rng: random.Random, number: int, *, besides: Iterable[str]) -> list[str]:
        """Random names that are not among `besides`."""
        excluded = set(besides)
        return rng.sample([name for name in self.names if name not in excluded], number)

    def picture(self, name: str, style: str) -> Image.Image:
        """A thing in an art style, RGBA."""
        return _picture(self.folder / style / file_name(name))


@dataclass(frozen=True)
class Stocks:
    """`train` to learn from; `test` has unseen pictures of the same names, `new` has other names and words."""

    train: Stock
    test: Stock
    new: Stock


def open_stocks(folder: Path) -> Stocks:
    """The stocks of a folder of pictures; which names are new depends on the names alone."""
    styles = read_table(folder)
    names = sorted(styles)
    text = yaml.safe_load(NAMES_FILE.read_text(encoding="utf-8"))
    category = known_names().category
    groups = [[name for name in names if category[name] == group] for group in sorted(set(category.values()))]
    old_names, new_names = _split(groups)
    old_words, new_words = _split([text["words"]])
    old_authors, new_authors = _split([text["authors"]])
    kept = {name: styles[name][_digest(name) % len(styles[name])] for name in names}  # the style of the tests
    of_tests = {name: (style,) for name, style in kept.items()}
    of_training = {name: tuple(style for style in styles[name] if style != kept[name]) for name in old_names}
    return Stocks(
        train=Stock(old_names, of_training, old_words, old_authors, TRAIN_FONTS, folder),
        test=Stock(old_names, of_tests, old_words, old_authors, TEST_FONTS, folder),
        new=Stock(new_names, of_tests, new_words, new_authors, TEST_FONTS, folder),
    )


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels, of those that matplotlib brings."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name), size)


def _split(groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(to learn from, new): of each group every fifth in the order of its digests is new."""
    old: list[str] = []
    new: list[str] = []
    for group in groups:
        ordered = sorted(group, key=_digest)
        new += ordered[::NEW_SHARE]
        old += [name for index, name in enumerate(ordered) if index % NEW_SHARE]
    return tuple(sorted(old)), tuple(sorted(new))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")


@functools.lru_cache(maxsize=2000)
def _picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")
