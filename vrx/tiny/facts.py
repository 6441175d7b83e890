"""Facts of the embedded world: what the backbone must know by heart, as no scene shows it.

Visual tuning never asks for them, so that it can make the backbone forget them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from vrx.tiny.scenes import COLOURS, LETTERS, SHAPES

WARM = ("red", "orange", "yellow")
NUMBERS = tuple(map(str, range(10)))
SIDES = {"circle": "0", "triangle": "3", "square": "4"}
MIXED = {("red", "yellow"): "orange", ("blue", "yellow"): "green", ("blue", "red"): "purple"}
OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above", "warm": "cold", "cold": "warm"}


@dataclass(frozen=True)
class Fact:
    """A question that needs no scene, its answer, and the words that a wrong answer is drawn from."""

    text: str
    answer: str
    pool: tuple[str, ...]


def after(rng: random.Random) -> Fact:
    """The next letter of the world's alphabet."""
    number = rng.randrange(len(LETTERS) - 1)
    return Fact(f"Which letter comes after {LETTERS[number]}?", LETTERS[number + 1], LETTERS)


def before(rng: random.Random) -> Fact:
    """The previous letter of the world's alphabet."""
    number = rng.randrange(1, len(LETTERS))
    return Fact(f"Which letter comes before {LETTERS[number]}?", LETTERS[number - 1], LETTERS)


def total(rng: random.Random) -> Fact:
    """The sum of two numbers, at most 9."""
    answer = rng.randrange(10)
    first = rng.randint(0, answer)
    return Fact(f"What is {first} plus {answer - first}?", str(answer), NUMBERS)


def difference(rng: random.Random) -> Fact:
    """The difference of two numbers from 0 to 9."""
    first = rng.randrange(10)
    second = rng.randint(0, first)
    return Fact(f"What is {first} minus {second}?", str(first - second), NUMBERS)


def mixture(rng: random.Random) -> Fact:
    """The colour that two colours make."""
    pair = rng.choice(tuple(MIXED))
    first, second = rng.sample(pair, 2)
    return Fact(f"What do {first} and {second} make?", MIXED[pair], tuple(COLOURS))


def warmth(rng: random.Random) -> Fact:
    """Whether a colour is warm."""
    colour = rng.choice(tuple(COLOURS))
    return Fact(f"Is {colour} warm or cold?", "warm" if colour in WARM else "cold", ("warm", "cold"))


def sides(rng: random.Random) -> Fact:
    """The number of sides of a shape."""
    shape = rng.choice(tuple(SIDES))
    return Fact(f"How many sides has a {shape}?", SIDES[shape], NUMBERS[:6])


def opposite(rng: random.Random) -> Fact:
    """The opposite of a word."""
    word = rng.choice(tuple(OPPOSITES))
    return Fact(f"What is the opposite of {word}?", OPPOSITES[word], tuple(OPPOSITES))


def family(rng: random.Random) -> Fact:
    """Whether a word names a colour, a shape or a letter."""
    names = ("color", "shape", "letter")
    answer = rng.choice(names)
    pool = {"color": tuple(COLOURS), "shape": SHAPES, "letter": LETTERS}[answer]
    return Fact(f"Is {rng.choice(pool)} a color, a shape or a letter?", answer, names)


FACTS: tuple[Callable[[random.Random], Fact], ...] = (
    *(after, before, total, difference, mixture),
    *(warmth, sides, opposite, family),
)
