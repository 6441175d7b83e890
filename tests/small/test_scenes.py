"""Scenes lie within their pictures, and what a picture shows follows from its scene."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from support.small_world import make_pictures

from vrx.small import scenes
from vrx.small.drawing import draw
from vrx.small.scenes import COLOURS, SIDE, WORD_HEIGHT, Scene
from vrx.small.stock import Stock, Stocks, font, open_stocks

seeds = st.integers(0, 2**32 - 1)
SAMPLERS = (scenes.sample_things, scenes.sample_labelled, scenes.sample_cover, scenes.sample_page)


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Stocks:
    return open_stocks(make_pictures(tmp_path_factory.mktemp("stock") / "pictures"))


def overlap(first: scenes.Box, second: scenes.Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@pytest.mark.parametrize("sample", SAMPLERS, ids=lambda sample: sample.__name__)
@given(seed=seeds)
def test_cards_lie_in_the_picture_and_apart(stocks: Stocks, sample, seed: int):
    scene = sample(random.Random(seed), stocks.train)
    for number, thing in enumerate(scene.things):
        x1, y1, x2, y2 = thing.card
        assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 + (WORD_HEIGHT if thing.word else 0) <= SIDE
        assert x1 < thing.box[0] < thing.box[2] < x2 and y1 < thing.box[1] < thing.box[3] < y2
        assert not any(overlap(thing.card, other.card) for other in scene.things[number + 1 :])


@given(seed=seeds)
def test_a_scene_has_up_to_five_different_things_where_it_says(stocks: Stocks, seed: int):
    scene = scenes.sample_things(random.Random(seed), stocks.train)
    assert 1 <= len(scene.things) <= 5
    for field in ("name", "place", "colour"):
        assert len({getattr(thing, field) for thing in scene.things}) == len(scene.things)
    for thing in scene.things:
        x, y = (thing.card[0] + thing.card[2]) / 2, (thing.card[1] + thing.card[3]) / 2
        if thing.place != "center":
            assert ("left" in thing.place, "top" in thing.place) == (x < SIDE / 2, y < SIDE / 2)


@given(seed=seeds)
def test_the_picture_shows_card_and_thing(stocks: Stocks, seed: int):
    scene = scenes.sample_things(random.Random(seed), stocks.test)
    pixels = np.asarray(draw(scene, stocks.test, seed=seed))
    assert pixels.shape == (SIDE, SIDE, 3)
    for thing in scene.things:
        x, y = (thing.box[0] + thing.box[2]) // 2, (thing.box[1] + thing.box[3]) // 2
        shown = stocks.test.picture(thing.name, thing.style).getpixel((8, 8))
        assert np.abs(pixels[y, x].astype(int) - shown[:3]).max() <= 2
        edge = (thing.card[0] + 1, (thing.card[1] + thing.card[3]) // 2)
        assert tuple(pixels[edge[1], edge[0]]) == COLOURS[thing.colour]


def test_the_same_seed_draws_the_same_picture(stocks: Stocks):
    scene = scenes.sample_labelled(random.Random(1), stocks.train)
    first, second, other = (draw(scene, stocks.train, seed=seed).tobytes() for seed in (1, 1, 2))
    assert first == second != other


def text_height(text: str, font_name: str, *, size: int, width: int) -> int:
    """The largest size up to `size` at which a text is at most `width` wide."""
    canvas = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return next(s for s in range(size, 0, -1) if canvas.textlength(text, font=font(font_name, s)) <= width)


def test_every_word_is_readable_in_every_font(stocks: Stocks):
    for stock in (stocks.train, stocks.test, stocks.new):
        for name in stock.fonts:
            assert min(text_height(word, name, size=16, width=SIDE // 2 - 6) for word in stock.words) >= 13
            lines = [text_height(f"{word} 88", name, size=20, width=SIDE - 6) for word in stock.words]
            assert min(lines) >= 17
            longest = sorted(stock.words, key=len)[-2:]
            assert text_height(" ".join(longest), name, size=24, width=SIDE - 6) >= 13


@pytest.mark.parametrize("kind", ["train", "test"])
def test_another_word_changes_its_own_strip_alone(stocks: Stocks, kind: str):
    stock: Stock = getattr(stocks, kind)
    scene = scenes.sample_page(random.Random(2), stock)
    changed = Scene(font=scene.font, lines=(("zero", 11), *scene.lines[1:]))
    first, second = (np.asarray(draw(s, stock, seed=3)).astype(int) for s in (scene, changed))
    rows = np.flatnonzero((first != second).any(axis=(1, 2)))
    assert len(rows) > 8 and rows.max() < SIDE // 5 + 6
    assert (first.min(axis=(0, 2))[SIDE // 3 : SIDE // 2] < 60).any()  # ink
