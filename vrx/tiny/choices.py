"""Multiple-choice questions about a scene, about facts, and about the options alone."""

from __future__ import annotations

import random

from vrx.tiny.facts import FACTS, WARM
from vrx.tiny.questions import Question, colour_at, pick, position, recognition
from vrx.tiny.scenes import COLOURS, GRID, THINGS, Scene, cell_name

SCIENCE = ("warm letter", "warm shape", "cold letter", "cold shape")


def with_options(question: Question, pool: tuple[str, ...], rng: random.Random, number: int = 4) -> Question:
    """The question with its answer among options drawn from the pool, in random order."""
    wrong = rng.sample([option for option in pool if option != question.answer], number - 1)
    choices = [question.answer, *wrong]
    rng.shuffle(choices)
    return Question(question.text, question.answer, question.kind, tuple(choices), question.context, question.cell)


def choice(scene: Scene, rng: random.Random) -> Question:
    """Multiple choice with four options about a thing, a colour or a position."""
    question = rng.choice((recognition, colour_at, position))(scene, rng)
    if question.kind == "color":
        return with_options(question, tuple(COLOURS), rng)
    pool = tuple(map(cell_name, range(GRID * GRID))) if question.kind == "positional_reasoning" else (*THINGS, "none")
    return with_options(question, pool, rng)


def option(scene: Scene, rng: random.Random) -> Question:
    """Multiple choice that names the right option, so that nothing needs to be looked up."""
    pool = rng.choice((tuple(COLOURS), THINGS, tuple(map(cell_name, range(GRID * GRID)))))
    word = rng.choice(pool)
    return with_options(Question(f"Which option is {word}?", word, "option"), pool, rng)


def options(scene: Scene, rng: random.Random) -> Question:
    """The options with their letters, sorted by word: `circle B, k A, …`."""
    question = option(scene, rng)
    lines = [f"{letter}. {text}" for letter, text in zip("ABCD", question.choices, strict=True)]
    pairs = sorted(f"{text} {letter}" for letter, text in zip("ABCD", question.choices, strict=True))
    return Question("\n".join(["Sort the options.", *lines]), ", ".join(pairs), "list")


def science(scene: Scene, rng: random.Random) -> Question:
    """Multiple choice that needs two facts: which colours are warm, and which things are letters."""
    cell, thing = pick(scene, rng)  # type: ignore[misc]
    answer = f"{'warm' if thing.colour in WARM else 'cold'} {'letter' if thing.is_letter else 'shape'}"
    context = "red, orange and yellow are warm, circle, square, triangle and cross are shape."
    question = Question(f"Which is at {cell_name(cell)}?", answer, "science", context=context, cell=cell)
    return with_options(question, SCIENCE, rng)


def fact(scene: Scene, rng: random.Random) -> Question:
    """A fact to know by heart."""
    known = rng.choice(FACTS)(rng)
    return Question(known.text, known.answer, "fact")


def fact_choice(scene: Scene, rng: random.Random) -> Question:
    """A fact to know by heart, with options."""
    known = rng.choice(FACTS)(rng)
    question = Question(known.text, known.answer, "fact")
    return with_options(question, known.pool, rng, number=min(4, len(known.pool)))
