"""Questions about a scene in words that take several steps; no picture is asked about with them."""

from __future__ import annotations

import random

from vrx.tiny.questions import RELATIONS, Question, kind_at, neighbours, pick
from vrx.tiny.scenes import COLOURS, GRID, LETTERS, Scene, cell_name


def colour_beside(scene: Scene, rng: random.Random) -> Question:
    """The colour of a thing's neighbour."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    words, other = rng.choice(neighbours(cell))
    beside = scene[other]
    return Question(f"What color is {words} the {thing}?", beside.colour if beside else "none", "hops")


def two_steps(scene: Scene, rng: random.Random) -> Question:
    """What is beside the cell that is beside a thing."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    first, between = rng.choice(neighbours(cell))
    second, other = rng.choice(neighbours(between))
    return Question(f"What is {second} what is {first} the {thing}?", kind_at(scene, other), "hops")


def comparison(scene: Scene, rng: random.Random) -> Question:
    """Whether a thing is above another, or left of it, anywhere in the scene."""
    first, second = rng.sample([cell for cell, thing in enumerate(scene) if thing], 2)
    words, (down, right) = rng.choice(tuple(RELATIONS.items()))
    distance = (first // GRID - second // GRID) * down + (first % GRID - second % GRID) * right
    return Question(f"Is the {scene[first]} {words} the {scene[second]}?", "yes" if distance > 0 else "no", "hops")


def count_two_colours(scene: Scene, rng: random.Random) -> Question:
    """The number of things of either of two colours."""
    colours = rng.sample(tuple(COLOURS), 2)
    number = sum(thing is not None and thing.colour in colours for thing in scene)
    return Question(f"How many things are {colours[0]} or {colours[1]}?", str(number), "hops")


def letter_after(scene: Scene, rng: random.Random) -> Question | None:
    """The letter of the alphabet that comes after the one at a cell."""
    picked = pick(scene, rng, letters=True)
    if picked is None or picked[1].kind == LETTERS[-1]:
        return None
    answer = LETTERS[LETTERS.index(picked[1].kind) + 1]
    return Question(f"Which letter comes after the letter at {cell_name(picked[0])}?", answer, "hops")


HOPS = (colour_beside, two_steps, comparison, count_two_colours, letter_after)
