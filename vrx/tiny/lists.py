"""Questions whose answers list the things of a scene."""

from __future__ import annotations

import random

from vrx.tiny.questions import Question
from vrx.tiny.scenes import SHAPES, Scene, cell_name


def description(scene: Scene, rng: random.Random) -> Question:
    """All things, cell by cell: `b1 red circle, c3 blue k`."""
    parts = [f"{cell_name(cell)} {thing.colour} {thing.kind}" for cell, thing in enumerate(scene) if thing]
    return Question("Describe the scene.", ", ".join(parts), "description")


def by_kind(scene: Scene, rng: random.Random) -> Question:
    """All things, kind first: `circle b1 red, k c3 blue`."""
    entries = sorted((thing.kind, cell_name(cell), thing.colour) for cell, thing in enumerate(scene) if thing)
    return Question("List what there is by kind.", ", ".join(map(" ".join, entries)), "list")


def by_name(scene: Scene, rng: random.Random) -> Question:
    """All things, full name first: `blue k c3, red circle b1`."""
    entries = sorted((str(thing), cell_name(cell)) for cell, thing in enumerate(scene) if thing)
    return Question("List what there is by name.", ", ".join(map(" ".join, entries)), "list")


def tally(scene: Scene, rng: random.Random) -> Question:
    """The number of each shape, zero included: `circle 1, square 0, …`."""
    kinds = [thing.kind for thing in scene if thing]
    return Question("Count the shapes.", ", ".join(f"{kind} {kinds.count(kind)}" for kind in SHAPES), "list")


def caption(scene: Scene, rng: random.Random) -> str:
    """The things of a scene cell by cell, as they follow its picture in stage 1: ` b1 red circle, c3 blue k`."""
    return " " + description(scene, rng).answer
