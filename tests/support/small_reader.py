"""Answers questions about scenes of the small world by reading question and scene, apart from the code that asks."""

from __future__ import annotations

import re

from vrx.small.pictures import known_names
from vrx.small.questions import Question
from vrx.small.scenes import Scene, Thing


def solve(question: Question, scene: Scene) -> str:
    """The answer to a question; for multiple choice the right option."""
    for pattern, answer in ANSWERS.items():
        match = re.fullmatch(pattern, question.text)
        if match:
            return answer(scene, question, *match.groups())
    return box(scene, question)


def by_name(scene: Scene, name: str) -> Thing:
    return next(thing for thing in scene.things if thing.name == name)


def by_colour(scene: Scene, colour: str) -> Thing:
    return next(thing for thing in scene.things if thing.colour == colour)


def by_place(scene: Scene, place: str) -> Thing:
    return next(thing for thing in scene.things if thing.place == place)


def count_of_kind(scene: Scene, question: Question, kind: str) -> str:
    return str(sum(known_names().category[thing.name] == kind for thing in scene.things))


def neighbour(scene: Scene, question: Question, direction: str, name: str) -> str:
    """The thing whose card begins on that side and that shares the row or the column."""
    x1, y1, x2, y2 = by_name(scene, name).card
    for other in scene.things:
        a1, b1, a2, b2 = other.card
        same_row, same_column = abs(y1 + y2 - b1 - b2) < 60, abs(x1 + x2 - a1 - a2) < 60
        is_there = {
            "to the left of": same_row and a2 <= x1,
            "to the right of": same_row and a1 >= x2,
            "above": same_column and b2 <= y1,
            "below": same_column and b1 >= y2,
        }[direction]
        if is_there and other.place != "center":
            return other.name
    return "nothing"


def thing_with(scene: Scene, question: Question, trait: str) -> str:
    has, _ = known_names().traits[trait]
    shown = {thing.name for thing in scene.things}
    return next(option for option in question.choices if option in has and option in shown)


def box(scene: Scene, question: Question) -> str:
    match = re.fullmatch(r"thing on the (\w+) card", question.text)
    thing = by_colour(scene, match[1]) if match else by_name(scene, question.text)
    return "[" + ", ".join(f"{corner / 140:.2f}" for corner in thing.box) + "]"


def description(scene: Scene, question: Question) -> str:
    if scene.lines:
        return "a page with the lines " + ", ".join(f"{text} {number}" for text, number in scene.lines)
    parts = []
    for thing in scene.things:
        plural_or_mass = thing.name in question.answer and f"a {thing.name}" not in question.answer
        article = "" if plural_or_mass and f"an {thing.name}" not in question.answer else "a "
        article = "an " if f"an {thing.name}" in question.answer else article
        shown = f"{article}{thing.name} on a {thing.colour} card"
        if scene.title:
            return f'a book "{scene.title}" by {scene.author} with {shown}'
        where = "in the center" if thing.place == "center" else f"at the {thing.place}"
        parts.append(f"{shown} {where}" + (f' with the word "{thing.word}"' if thing.word else ""))
    return ", ".join(parts)


ANSWERS = {
    r"What is at the (.+)\?": lambda scene, _, place: by_place(scene, place).name,
    r"What is in the center\?": lambda scene, _: by_place(scene, "center").name,
    r"What is on the (\w+) card\?": lambda scene, _, colour: by_colour(scene, colour).name,
    r"What color is the card of the (.+)\?": lambda scene, _, name: by_name(scene, name).colour,
    r"Where is the (.+)\?": lambda scene, _, name: by_name(scene, name).place,
    r"Is there (?:an? )?(.+)\?": lambda scene, _, name: "yes" if name in [t.name for t in scene.things] else "no",
    r"How many cards are there\?": lambda scene, _: str(len(scene.things)),
    r"How many cards show (?:an? )?(.+)\?": count_of_kind,
    r"What is (to the left of|to the right of|above|below) the (.+)\?": neighbour,
    r"What kind of thing is (?:at|in) the (.+)\?": lambda scene, _, place: known_names().category[
        by_place(scene, place).name
    ],
    r"Which thing in the picture (.+)\?": thing_with,
    r"What is the word below the (\w+) card\?": lambda scene, _, colour: by_colour(scene, colour).word,
    r"What is the word below the (.+)\?": lambda scene, _, name: by_name(scene, name).word,
    r"What is the title of this book\?": lambda scene, _: scene.title,
    r"Who is the author of this book\?": lambda scene, _: scene.author,
    r"What is in line (\d)\?": lambda scene, _, line: " ".join(map(str, scene.lines[int(line) - 1])),
    r"What number is next to (\w+)\?": lambda scene, _, word: str(dict(scene.lines)[word]),
    r"Describe the picture\.": description,
}
