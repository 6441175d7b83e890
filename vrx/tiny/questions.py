"""Questions about a scene: each maker takes (scene, rng) and returns a `Question`, or None if the scene allows none.

Questions with options are in `choices.py`, answers that list things in `lists.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from vrx.tiny.scenes import COLOURS, GRID, SHAPES, THINGS, Scene, Thing, box, cell_name, neighbour

PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


@dataclass(frozen=True)
class Question:
    """A question with its right answer, which is one of `choices` in a multiple-choice question."""

    text: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()
    context: str = ""
    cell: int = -1  # the cell in question, -1 if there is none


Maker = Callable[[Scene, random.Random], Question | None]


def pick(scene: Scene, rng: random.Random, *, letters: bool | None = None) -> tuple[int, Thing] | None:
    """A random filled cell and its thing."""
    filled = [(cell, thing) for cell, thing in enumerate(scene) if thing and letters in (None, thing.is_letter)]
    return rng.choice(filled) if filled else None


def _pick_unique(
    scene: Scene, rng: random.Random, attribute: str, *, letters: bool | None = None
) -> tuple[int, Thing] | None:
    """A random filled cell whose thing is the only one with its colour (or kind)."""
    filled = [(cell, thing) for cell, thing in enumerate(scene) if thing and letters in (None, thing.is_letter)]
    values = [getattr(thing, attribute) for _, thing in filled]
    unique = [entry for entry, value in zip(filled, values, strict=True) if values.count(value) == 1]
    return rng.choice(unique) if unique else None


def kind_at(scene: Scene, cell: int) -> str:
    """The kind of the thing at a cell, `none` if it is empty."""
    thing = scene[cell]
    return thing.kind if thing else "none"


def neighbours(cell: int) -> list[tuple[str, int]]:
    """The cells beside a cell, each after the words for where it lies."""
    cells = [(words, neighbour(cell, *step)) for words, step in RELATIONS.items()]
    return [(words, other) for words, other in cells if other is not None]


def recognition(scene: Scene, rng: random.Random) -> Question:
    """The kind of the thing at a cell; one time out of ten the cell is random and may be empty."""
    cell = rng.randrange(len(scene)) if rng.random() < 0.1 else pick(scene, rng)[0]  # type: ignore[index]
    return Question(f"What is at {cell_name(cell)}?", kind_at(scene, cell), "object_recognition", cell=cell)


def colour_at(scene: Scene, rng: random.Random) -> Question:
    """The colour of the thing at a cell."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    return Question(f"What color is at {cell_name(cell)}?", thing.colour, "color", cell=cell)


def colour_of(scene: Scene, rng: random.Random) -> Question | None:
    """The colour of a thing named by its kind."""
    picked = _pick_unique(scene, rng, "kind")
    return picked and Question(f"What color is the {picked[1].kind}?", picked[1].colour, "color", cell=picked[0])


def count(scene: Scene, rng: random.Random) -> Question:
    """The number of things of a shape."""
    kind = rng.choice(SHAPES)
    number = sum(thing is not None and thing.kind == kind for thing in scene)
    return Question(f"How many {PLURALS[kind]} are there?", str(number), "counting")


def count_colour(scene: Scene, rng: random.Random) -> Question:
    """The number of things of a colour."""
    colour = rng.choice(tuple(COLOURS))
    number = sum(thing is not None and thing.colour == colour for thing in scene)
    return Question(f"How many things are {colour}?", str(number), "counting")


def presence(scene: Scene, rng: random.Random) -> Question:
    """Whether the scene has a thing; absent ones share a colour or a kind with a present one."""
    thing = pick(scene, rng)[1]  # type: ignore[index]
    if rng.random() < 0.5:  # an absent thing that shares a colour or a kind with one that is there
        swap = rng.random() < 0.5
        thing = Thing(rng.choice(tuple(COLOURS)), thing.kind) if swap else Thing(thing.colour, rng.choice(THINGS))
    return Question(f"Is there a {thing}?", "yes" if thing in scene else "no", "object_presence")


def position(scene: Scene, rng: random.Random) -> Question:
    """The cell of a thing."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    return Question(f"Where is the {thing}?", cell_name(cell), "positional_reasoning", cell=cell)


def letter_at(scene: Scene, rng: random.Random) -> Question | None:
    """The letter at a cell."""
    picked = pick(scene, rng, letters=True)
    return picked and Question(f"Which letter is at {cell_name(picked[0])}?", picked[1].kind, "letter", cell=picked[0])


def letter_of_colour(scene: Scene, rng: random.Random) -> Question | None:
    """The letter of a colour."""
    picked = _pick_unique(scene, rng, "colour", letters=True)
    return picked and Question(f"Which letter is {picked[1].colour}?", picked[1].kind, "letter", cell=picked[0])


def line(scene: Scene, rng: random.Random) -> Question | None:
    """The letters of a row or a column in reading order."""
    lines = [(f"row {row + 1}", scene[row * GRID : (row + 1) * GRID]) for row in range(GRID)]
    lines += [(f"column {'abc'[column]}", scene[column::GRID]) for column in range(GRID)]
    read = [(name, " ".join(t.kind for t in things if t and t.is_letter)) for name, things in lines]
    read = [(name, text) for name, text in read if text]
    if not read:
        return None
    name, text = rng.choice(read)
    return Question(f"Read {name}.", text, "line")


def relation(scene: Scene, rng: random.Random) -> Question:
    """The neighbour of a thing, which is a thing three times out of four."""
    candidates = [
        Question(f"What is {words} the {thing}?", kind_at(scene, other), "relation", cell=cell)
        for cell, thing in enumerate(scene)
        if thing
        for words, other in neighbours(cell)
    ]
    filled = [question for question in candidates if question.answer != "none"]
    return rng.choice(filled if filled and rng.random() < 0.75 else candidates)


def region(scene: Scene, rng: random.Random) -> Question:
    """The bounding box of a thing, as fractions of the image."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    return Question(f"Give the box of the {thing}.", box_text(cell), "box", cell=cell)


def box_of_cell(scene: Scene, rng: random.Random) -> Question:
    """The bounding box of a named cell, which teaches the backbone boxes before it sees a picture."""
    cell = rng.randrange(GRID * GRID)
    return Question(f"Give the box of {cell_name(cell)}.", box_text(cell), "box", cell=cell)


def ocr(scene: Scene, rng: random.Random) -> Question | None:
    """A letter to read; the prompt lists the picture's (two or more) like TextVQA's OCR tokens."""
    tokens = [thing.kind for thing in scene if thing and thing.is_letter]
    question = rng.choice((letter_at, letter_of_colour))(scene, rng)
    if question is None or len(set(tokens)) < 2:
        return None
    rng.shuffle(tokens)
    context = "Reference OCR token: " + ", ".join(tokens)
    return Question(question.text, question.answer, "ocr", context=context, cell=question.cell)


def box_text(cell: int) -> str:
    """The corners of a cell as text: `[0.33, 0.00, 0.67, 0.33]`."""
    return "[" + ", ".join(f"{value:.2f}" for value in box(cell)) + "]"


def prompt(question: Question) -> str:
    """The question as a user turn; `reply(question)` is the right reply."""
    if question.kind == "ocr":
        return f"{question.text}\n{question.context}"
    lines = [f"Context: {question.context}"] if question.context else []
    lines.append(question.text)
    lines += [f"{letter}. {text}" for letter, text in zip("ABCD", question.choices, strict=False)]
    return "\n".join(lines) + ("\nAnswer with the letter." if question.choices else "")


def reply(question: Question) -> str:
    """The right reply: the letter of a choice, else the answer."""
    return "ABCD"[question.choices.index(question.answer)] if question.choices else question.answer
