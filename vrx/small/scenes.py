"""Scenes of the small world: things on coloured cards, with or without words; book covers; pages of lines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vrx.small.stock import Stock

SIDE = 140  # pixels along a side: ten patches of the vision tower
HALF = SIDE // 2
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}  # column, row
PLACES = (*CORNERS, "center")
COLOURS = {
    "red": (214, 40, 40),
    "yellow": (245, 215, 60),
    "green": (60, 160, 75),
    "blue": (50, 95, 215),
    "purple": (140, 70, 180),
    "white": (250, 250, 250),
    "black": (30, 30, 30),
}
WORD_HEIGHT = 16  # pixels below a card that its word takes
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels


@dataclass(frozen=True)
class Thing:
    """A named thing in an art style on a coloured card; `box` is that of its picture, `card` that of its card."""

    name: str
    style: str
    place: str
    colour: str
    card: Box
    box: Box
    word: str = ""  # written below the card


@dataclass(frozen=True)
class Scene:
    """What a picture shows. A book cover has `title` and `author`, a page has `lines` of a word and a number."""

    things: tuple[Thing, ...] = ()
    font: str = ""
    title: str = ""
    author: str = ""
    lines: tuple[tuple[str, int], ...] = ()

    def at(self, place: str) -> Thing | None:
        """The thing at a place."""
        return next((thing for thing in self.things if thing.place == place), None)


def sample_things(rng: random.Random, stock: Stock, number: int | None = None) -> Scene:
    """One to five different things: in the corners, the fifth in the middle, a single one anywhere."""
    number = number or rng.randint(1, 5)
    places = list(PLACES) if number == len(PLACES) else rng.sample(list(CORNERS), number)
    if number == 1 and rng.random() < 0.5:
        places = ["center"]
    cell = SIDE if places == ["center"] else SIDE // 3 if number == len(PLACES) else HALF
    return Scene(_things(rng, stock, places, cell), font=rng.choice(stock.fonts))


def sample_labelled(rng: random.Random, stock: Stock) -> Scene:
    """Two to four things in the corners, each with a word below its card."""
    places = rng.sample(list(CORNERS), rng.randint(2, 4))
    words = rng.sample(stock.words, len(places))
    return Scene(_things(rng, stock, places, HALF, words), font=rng.choice(stock.fonts))


def sample_cover(rng: random.Random, stock: Stock) -> Scene:
    """A book cover: a title, a thing, an author."""
    size = rng.randint(56, 66)
    left, top = rng.randint(0, SIDE - size), rng.randint(36, SIDE - 30 - size)
    card = (left, top, left + size, top + size)
    name = rng.choice(stock.names)
    style = rng.choice(stock.styles[name])
    thing = Thing(name, style, "center", rng.choice(list(COLOURS)), card, _inner(card))
    title = " ".join(rng.sample(stock.words, rng.choice((1, 1, 2))))
    return Scene((thing,), font=rng.choice(stock.fonts), title=title, author=rng.choice(stock.authors))


def sample_page(rng: random.Random, stock: Stock) -> Scene:
    """A page of three or four lines, each a word and a number below 100."""
    words = rng.sample(stock.words, rng.randint(3, 4))
    numbers = rng.sample(range(2, 100), len(words))
    return Scene(font=rng.choice(stock.fonts), lines=tuple(zip(words, numbers, strict=True)))


def _things(
    rng: random.Random, stock: Stock, places: Sequence[str], cell: int, words: Sequence[str] = ()
) -> tuple[Thing, ...]:
    names, colours = rng.sample(stock.names, len(places)), rng.sample(list(COLOURS), len(places))
    things = []
    for index, place in enumerate(places):
        below = WORD_HEIGHT if words else 0
        size = rng.randint(round(0.85 * cell), cell) - below
        left, top = _origin(place, cell)
        left += rng.randint(0, cell - size)
        top += rng.randint(0, cell - size - below)
        card = (left, top, left + size, top + size)
        word = words[index] if words else ""
        style = rng.choice(stock.styles[names[index]])
        things.append(Thing(names[index], style, place, colours[index], card, _inner(card), word))
    return tuple(things)


def _origin(place: str, cell: int) -> tuple[int, int]:
    if place == "center":
        return (SIDE - cell) // 2, (SIDE - cell) // 2
    column, row = CORNERS[place]
    return column * (SIDE - cell), row * (SIDE - cell)


def _inner(card: Box) -> Box:
    """The box of a picture, a twentieth of the card inside of it on every side."""
    margin = max(2, (card[2] - card[0]) // 20)
    return card[0] + margin, card[1] + margin, card[2] - margin, card[3] - margin
