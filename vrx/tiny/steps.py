"""Questions that spell out the steps to a harder answer; the backbone's pre-training asks them beside the hard ones.

To choose the letter of an option, the backbone has to find the answer and then its letter. Asked for the letter alone,
it guesses for thousands of steps.
"""

from __future__ import annotations

import random

from vrx.tiny.choices import choice, fact_choice, science
from vrx.tiny.questions import RELATIONS, Question, kind_at, prompt, relation, reply
from vrx.tiny.scenes import GRID, Scene, cell_name, neighbour


def _cell_with_neighbour(rng: random.Random) -> tuple[int, str, int]:
    while True:
        cell, words = rng.randrange(GRID * GRID), rng.choice(tuple(RELATIONS))
        if (other := neighbour(cell, *RELATIONS[words])) is not None:
            return cell, words, other


def neighbouring_cell(scene: Scene, rng: random.Random) -> Question:
    """The name of a neighbouring cell."""
    cell, words, other = _cell_with_neighbour(rng)
    return Question(f"Where is {words} {cell_name(cell)}?", cell_name(other), "steps")


def relation_of_cell(scene: Scene, rng: random.Random) -> Question:
    """What is in a neighbouring cell."""
    cell, words, other = _cell_with_neighbour(rng)
    return Question(f"What is {words} {cell_name(cell)}?", kind_at(scene, other), "steps")


def relation_steps(scene: Scene, rng: random.Random) -> Question:
    """The neighbour of a thing after its cell: `a1 circle`."""
    question = relation(scene, rng)
    words = next(words for words in RELATIONS if f" {words} " in question.text)
    other = neighbour(question.cell, *RELATIONS[words])
    assert other is not None
    text = question.text.replace("What is", "Where and what is")
    return Question(text, f"{cell_name(other)} {question.answer}", "steps")


def _spelled(question: Question) -> Question:
    text = prompt(question).replace("Answer with the letter.", "Answer with the name and the letter.")
    return Question(text, f"{question.answer} {reply(question)}", "steps")


def choice_steps(scene: Scene, rng: random.Random) -> Question:
    """Multiple choice, answered by the option before its letter: `circle B`."""
    return _spelled(choice(scene, rng))


def fact_choice_steps(scene: Scene, rng: random.Random) -> Question:
    """A fact with options, answered by the option before its letter."""
    return _spelled(fact_choice(scene, rng))


def science_steps(scene: Scene, rng: random.Random) -> Question:
    """Multiple choice that needs two facts, answered by the option before its letter: `warm shape B`."""
    return _spelled(science(scene, rng))


STEPS = (neighbouring_cell, relation_of_cell, relation_steps, choice_steps, fact_choice_steps, science_steps)
