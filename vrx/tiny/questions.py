"""Questions about a scene: each maker takes (scene, rng) and gives a `Question`, or None where it cannot be asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from vrx.tiny.scenes import COLOURS, GRID, SHAPES, THINGS, Scene, Thing, box, cell_name

WARM = ("red", "orange", "yellow")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


@dataclass(frozen=True)
class Question:
    """One question; `answer` is the right text, for a choice the text of the right one of `choices`."""

    text: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()
    context: str = ""
    cell: int = -1  # the cell asked about, where there is one


Maker = Callable[[Scene, random.Random], Question | None]


def _pick(scene: Scene, rng: random.Random, *, letters: bool | None = None) -> tuple[int, Thing] | None:
    """A random filled cell and its thing."""
    filled = [(cell, thing) for cell, thing in enumerate(scene) if thing and letters in (None, thing.is_letter)]
    return rng.choice(filled) if filled else None


def _pick_unique(scene: Scene, rng: random.Random, attribute: str, *, letters: bool | None = None):
    """A random filled cell whose thing alone has its colour (or kind) among those looked at."""
    filled = [(cell, thing) for cell, thing in enumerate(scene) if thing and letters in (None, thing.is_letter)]
    values = [getattr(thing, attribute) for _, thing in filled]
    unique = [entry for entry, value in zip(filled, values, strict=True) if values.count(value) == 1]
    return rng.choice(unique) if unique else None


def recognition(scene: Scene, rng: random.Random) -> Question:
    cell = rng.randrange(len(scene)) if rng.random() < 0.1 else _pick(scene, rng)[0]  # type: ignore[index]
    thing = scene[cell]
    return Question(f"What is at {cell_name(cell)}?", thing.kind if thing else "none", "object_recognition", cell=cell)


def colour_at(scene: Scene, rng: random.Random) -> Question:
    cell, thing = _pick(scene, rng)  # type: ignore[misc]
    return Question(f"What color is at {cell_name(cell)}?", thing.colour, "color", cell=cell)


def colour_of(scene: Scene, rng: random.Random) -> Question | None:
    picked = _pick_unique(scene, rng, "kind")
    return picked and Question(f"What color is the {picked[1].kind}?", picked[1].colour, "color", cell=picked[0])


def count(scene: Scene, rng: random.Random) -> Question:
    kind = rng.choice(SHAPES)
    number = sum(thing is not None and thing.kind == kind for thing in scene)
    return Question(f"How many are {PLURALS[kind]}?", str(number), "counting")


def count_colour(scene: Scene, rng: random.Random) -> Question:
    colour = rng.choice(tuple(COLOURS))
    number = sum(thing is not None and thing.colour == colour for thing in scene)
    return Question(f"How many are {colour}?", str(number), "counting")


def presence(scene: Scene, rng: random.Random) -> Question:
    thing = _pick(scene, rng)[1]  # type: ignore[index]
    if rng.random() < 0.5:  # an absent thing that shares a colour or a kind with one that is there
        swap = rng.random() < 0.5
        thing = Thing(rng.choice(tuple(COLOURS)), thing.kind) if swap else Thing(thing.colour, rng.choice(THINGS))
    return Question(f"Is there a {thing}?", "yes" if thing in scene else "no", "object_presence")


def position(scene: Scene, rng: random.Random) -> Question:
    cell, thing = _pick(scene, rng)  # type: ignore[misc]
    return Question(f"Where is the {thing}?", cell_name(cell), "positional_reasoning", cell=cell)


def letter_at(scene: Scene, rng: random.Random) -> Question | None:
    picked = _pick(scene, rng, letters=True)
    return picked and Question(f"Which letter is at {cell_name(picked[0])}?", picked[1].kind, "letter", cell=picked[0])


def letter_of_colour(scene: Scene, rng: random.Random) -> Question | None:
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
    """What stands beside a thing; three times out of four there is something."""
    found: list[Question] = []
    for cell, thing in enumerate(scene):
        for words, (down, right) in RELATIONS.items() if thing else ():
            row, column = cell // GRID + down, cell % GRID + right
            if 0 <= row < GRID and 0 <= column < GRID:
                other = scene[row * GRID + column]
                answer = other.kind if other else "none"
                found.append(Question(f"What is {words} the {thing}?", answer, "relation", cell=cell))
    filled = [question for question in found if question.answer != "none"]
    return rng.choice(filled if filled and rng.random() < 0.75 else found)


def _choice(question: Question, pool: tuple[str, ...], rng: random.Random, number: int = 4) -> Question:
    wrong = rng.sample([option for option in pool if option != question.answer], number - 1)
    choices = [question.answer, *wrong]
    rng.shuffle(choices)
    return Question(question.text, question.answer, question.kind, tuple(choices), question.context, question.cell)


def choice(scene: Scene, rng: random.Random) -> Question:
    """A four-way choice about what is where."""
    question = rng.choice((recognition, colour_at, position))(scene, rng)
    if question.kind == "color":
        return _choice(question, tuple(COLOURS), rng)
    pool = tuple(map(cell_name, range(GRID * GRID))) if question.kind == "positional_reasoning" else (*THINGS, "none")
    return _choice(question, pool, rng)


def option(scene: Scene, rng: random.Random) -> Question:
    """Which letter stands before a word: a choice without anything to look up."""
    pool = rng.choice((tuple(COLOURS), THINGS, tuple(map(cell_name, range(GRID * GRID)))))
    word = rng.choice(pool)
    return _choice(Question(f"Which option is {word}?", word, "option"), pool, rng)


def options(scene: Scene, rng: random.Random) -> Question:
    """Every option with its letter, sorted by its word: `circle B, k A, …`."""
    asked = option(scene, rng)
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", asked.choices, strict=True)]
    told = sorted(f"{text} {letter}" for letter, text in zip("ABCD", asked.choices, strict=True))
    return Question("\n".join(["Sort the options.", *lines]), ", ".join(told), "list")


def science(scene: Scene, rng: random.Random) -> Question:
    """A choice that needs a fact besides the picture: warm and cold colours, things with corners, letters."""
    cell, thing = _pick(scene, rng)  # type: ignore[misc]
    kind = rng.choice(("warm", "letter"))
    if kind == "warm":
        answer, pool = ("warm" if thing.colour in WARM else "cold"), ("warm", "cold")
        context = "red, orange and yellow are warm."
    else:
        answer, pool = ("letter" if thing.is_letter else "shape"), ("letter", "shape")
        context = "circle, square, triangle and cross are shape."
    question = Question(f"Which is at {cell_name(cell)}?", answer, kind, context=context, cell=cell)
    return _choice(question, pool, rng, number=2)


def region(scene: Scene, rng: random.Random) -> Question:
    """The box of a thing, four corners as fractions of the image."""
    cell, thing = _pick(scene, rng)  # type: ignore[misc]
    return Question(f"Give the box of the {thing}.", box_text(cell), "box", cell=cell)


def box_of_cell(scene: Scene, rng: random.Random) -> Question:
    """The box of a named cell: what the backbone knows about boxes before it sees a picture."""
    cell = rng.randrange(GRID * GRID)
    return Question(f"Give the box of {cell_name(cell)}.", box_text(cell), "box", cell=cell)


def ocr(scene: Scene, rng: random.Random) -> Question | None:
    """A letter to read, with all letters of the picture given in some order, as TextVQA's prompts do."""
    question = rng.choice((letter_at, letter_of_colour))(scene, rng)
    if question is None:
        return None
    tokens = [thing.kind for thing in scene if thing and thing.is_letter]
    rng.shuffle(tokens)
    context = "Reference OCR token: " + ", ".join(tokens)
    return Question(question.text, question.answer, "ocr", context=context, cell=question.cell)


def description(scene: Scene, rng: random.Random) -> Question:
    """Everything there is, cell by cell: `b1 red circle, c3 blue k`."""
    told = [f"{cell_name(cell)} {thing.colour} {thing.kind}" for cell, thing in enumerate(scene) if thing]
    return Question("Describe the scene.", ", ".join(told), "description")


def by_kind(scene: Scene, rng: random.Random) -> Question:
    """Everything there is, the kind first: `circle b1 red, k c3 blue`."""
    found = sorted((thing.kind, cell_name(cell), thing.colour) for cell, thing in enumerate(scene) if thing)
    return Question("List what there is by kind.", ", ".join(map(" ".join, found)), "list")


def by_name(scene: Scene, rng: random.Random) -> Question:
    """Everything there is, the whole name first: `blue-k c3, red-circle b1`."""
    found = sorted((str(thing), cell_name(cell)) for cell, thing in enumerate(scene) if thing)
    return Question("List what there is by name.", ", ".join(map(" ".join, found)), "list")


def tally(scene: Scene, rng: random.Random) -> Question:
    """How many there are of each shape, none included: `circle 1, square 0, …`."""
    kinds = [thing.kind for thing in scene if thing]
    return Question("Count the shapes.", ", ".join(f"{kind} {kinds.count(kind)}" for kind in SHAPES), "list")


def box_text(cell: int) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in box(cell)) + "]"


TYPED = (recognition, colour_at, colour_of, count, count_colour, presence, position)
EITHER = (*TYPED, letter_at, letter_of_colour, line, relation, choice, science)  # of a picture or of a scene in words
VISUAL: tuple[Maker, ...] = (*EITHER, region, ocr, description)
TEXT: tuple[Maker, ...] = (*EITHER, box_of_cell, description, by_kind, by_name, tally)


def prompt(question: Question) -> str:
    """The question as a user turn; its right reply is `reply(question)`."""
    if question.kind == "ocr":
        return f"{question.text}\n{question.context}"
    lines = [f"Context: {question.context}"] if question.context else []
    lines.append(question.text)
    lines += [f"{letter}. {text}" for letter, text in zip("ABCD", question.choices, strict=False)]
    return "\n".join(lines) + ("\nAnswer with the letter." if question.choices else "")


def reply(question: Question) -> str:
    return "ABCD"[question.choices.index(question.answer)] if question.choices else question.answer
