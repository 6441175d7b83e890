"""A second reader of the tiny world: it shares no code with the functions that make the questions."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from PIL import Image

from vrx.tiny.scenes import CELL, COLOURS, GRID, MASKS, Scene, Thing

CELLS = [f"{column}{row}" for row in range(1, GRID + 1) for column in "abc"[:GRID]]
WARM, SHAPES = {"red", "orange", "yellow"}, {"circle", "square", "triangle", "cross"}
STEPS = {"left of": -1, "right of": 1, "above": -GRID, "below": GRID}


def see(picture: Image.Image) -> Scene:
    """The scene of a picture, recognized from its pixels."""
    pixels = np.asarray(picture, dtype=np.float32)
    cells: list[Thing | None] = []
    for cell in range(GRID * GRID):
        top, left = (index * CELL for index in divmod(cell, GRID))
        window = pixels[top : top + CELL, left : left + CELL]
        covered = abs(window - np.median(pixels, axis=(0, 1))).max(axis=2) > 45
        if covered.sum() < 20:
            cells.append(None)
            continue
        kind = min(MASKS, key=lambda kind: (MASKS[kind] != covered).sum())
        colour = window[MASKS[kind]].mean(axis=0)
        hues = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in COLOURS.items()}
        cells.append(Thing(max(hues, key=lambda name: hues[name] @ colour), kind))
    return tuple(cells)


def parse(text: str) -> Scene:
    """The scene that a text describes, its things in any order: ` c3 blue k, b1 red circle`."""
    cells: list[Thing | None] = [None] * len(CELLS)
    for part in text.split(","):
        blank, cell, colour, kind = part.split(" ")
        assert blank == "" and cells[CELLS.index(cell)] is None
        cells[CELLS.index(cell)] = Thing(colour, kind)
    return tuple(cells)


def single(cells: list[int]) -> int:
    (cell,) = cells  # otherwise the question would be ambiguous
    return cell


def find_thing(scene: Scene, name: str) -> int:
    """The cell of the only thing with this name: `red circle`, `circle`."""
    words = name.split(" ")
    return single(
        [cell for cell, thing in enumerate(scene) if thing and [thing.colour, thing.kind][-len(words) :] == words]
    )


def letters(things: tuple[Thing | None, ...]) -> list[Thing]:
    return [thing for thing in things if thing and thing.kind not in SHAPES]


def kind_at(scene: Scene, cell: int) -> str:
    return scene[cell].kind if scene[cell] else "none"


def classify(scene: Scene, cell: int) -> str:
    thing = scene[cell]
    return f"{'warm' if thing.colour in WARM else 'cold'} {'shape' if thing.kind in SHAPES else 'letter'}"


def neighbour(words: str, cell: int) -> int:
    other = cell + STEPS[words]
    assert 0 <= other < GRID * GRID and (words in ("above", "below") or other // GRID == cell // GRID)
    return other


def colour_at(scene: Scene, cell: int) -> str:
    return scene[cell].colour if scene[cell] else "none"


def is_beyond(words: str, first: int, second: int) -> bool:
    """Whether the first cell is `left of` (…) the second, in whatever row or column."""
    across = words in ("left of", "right of")
    places = [cell % GRID if across else cell // GRID for cell in (first, second)]
    return places[0] < places[1] if words in ("left of", "above") else places[0] > places[1]


def beside(scene: Scene, words: str, name: str) -> str:
    return kind_at(scene, neighbour(words, find_thing(scene, name)))


def box(cell: int) -> str:
    row, column = divmod(cell, GRID)
    return "[" + ", ".join(f"{edge / GRID:.2f}" for edge in (column, row, column + 1, row + 1)) + "]"


def read(scene: Scene, line: str, name: str) -> str:
    first = CELLS.index(f"a{name}" if line == "row" else f"{name}1")
    things = scene[first : first + GRID] if line == "row" else scene[first::GRID]
    return " ".join(thing.kind for thing in letters(things))


CELL_NAME, THING, BESIDE = r"([a-c][1-3])", r"(\w+(?: \w+)?)", r"(left of|right of|above|below)"
ALPHABET, MIXED = "hkmrstxz", {"red yellow": "orange", "blue yellow": "green", "blue red": "purple"}
OPPOSITES = [{"left", "right"}, {"above", "below"}, {"warm", "cold"}]
RULES: dict[str, Callable[..., str]] = {
    r"Which letter comes after (\w)\?": lambda _, letter: ALPHABET[ALPHABET.index(letter) + 1],
    r"Which letter comes before (\w)\?": lambda _, letter: ALPHABET[ALPHABET.index(letter) - 1],
    r"What is (\d) plus (\d)\?": lambda _, first, second: str(int(first) + int(second)),
    r"What is (\d) minus (\d)\?": lambda _, first, second: str(int(first) - int(second)),
    r"What do (\w+) and (\w+) make\?": lambda _, *pair: MIXED[" ".join(sorted(pair))],
    r"Is (\w+) warm or cold\?": lambda _, colour: "warm" if colour in WARM else "cold",
    r"How many sides has a (\w+)\?": lambda _, shape: {"circle": "0", "triangle": "3", "square": "4"}[shape],
    r"What is the opposite of (\w+)\?": lambda _, word: next(min(two - {word}) for two in OPPOSITES if word in two),
    r"Is (\w+) a color, a shape or a letter\?": lambda _, word: (
        "color" if word in COLOURS else "shape" if word in SHAPES else "letter"
    ),
    rf"What is at {CELL_NAME}\?": lambda scene, name: kind_at(scene, CELLS.index(name)),
    rf"What color is at {CELL_NAME}\?": lambda scene, name: scene[CELLS.index(name)].colour,
    rf"What color is the {THING}\?": lambda scene, name: scene[find_thing(scene, name)].colour,
    r"How many (circle|square|triangle|crosse?)s are there\?": lambda scene, kind: str(
        sum(thing is not None and thing.kind == kind.replace("crosse", "cross") for thing in scene)
    ),
    rf"How many things are ({'|'.join(COLOURS)})\?": lambda scene, colour: str(
        sum(thing is not None and thing.colour == colour for thing in scene)
    ),
    rf"Which is at {CELL_NAME}\?": lambda scene, name: classify(scene, CELLS.index(name)),
    rf"Is there a {THING}\?": lambda scene, name: "yes" if name in map(str, scene) else "no",
    rf"Where is the {THING}\?": lambda scene, name: CELLS[find_thing(scene, name)],
    rf"Which letter is at {CELL_NAME}\?": lambda scene, name: letters((scene[CELLS.index(name)],))[0].kind,
    r"Which letter is (\w+)\?": lambda scene, colour: (
        letters(scene)[single([number for number, thing in enumerate(letters(scene)) if thing.colour == colour])].kind
    ),
    r"Read (row|column) (\w)\.": read,
    rf"What is {BESIDE} the {THING}\?": beside,
    rf"What is {BESIDE} {CELL_NAME}\?": lambda scene, words, name: kind_at(scene, neighbour(words, CELLS.index(name))),
    rf"What color is {BESIDE} the {THING}\?": lambda scene, words, name: colour_at(
        scene, neighbour(words, find_thing(scene, name))
    ),
    rf"What is {BESIDE} what is {BESIDE} the {THING}\?": lambda scene, second, first, name: kind_at(
        scene, neighbour(second, neighbour(first, find_thing(scene, name)))
    ),
    rf"Is the {THING} {BESIDE} the {THING}\?": lambda scene, first, words, second: (
        "yes" if is_beyond(words, find_thing(scene, first), find_thing(scene, second)) else "no"
    ),
    rf"How many things are ({'|'.join(COLOURS)}) or ({'|'.join(COLOURS)})\?": lambda scene, *colours: str(
        sum(thing is not None and thing.colour in colours for thing in scene)
    ),
    rf"Which letter comes after the letter at {CELL_NAME}\?": lambda scene, name: ALPHABET[
        ALPHABET.index(kind_at(scene, CELLS.index(name))) + 1
    ],
    rf"Where is {BESIDE} {CELL_NAME}\?": lambda _, words, name: CELLS[neighbour(words, CELLS.index(name))],
    rf"Where and what is {BESIDE} the {THING}\?": lambda scene, words, name: (
        f"{CELLS[neighbour(words, find_thing(scene, name))]} {beside(scene, words, name)}"
    ),
    rf"Give the box of {CELL_NAME}\.": lambda scene, name: box(CELLS.index(name)),
    rf"Give the box of the {THING}\.": lambda scene, name: box(find_thing(scene, name)),
    r"Which option is (\w+)\?": lambda scene, word: word,
    r"Count the shapes\.": lambda scene: ", ".join(
        f"{kind} {[thing.kind for thing in scene if thing].count(kind)}"
        for kind in ("circle", "square", "triangle", "cross")
    ),
    r"List what there is by (kind|name)\.": lambda scene, order: ", ".join(
        sorted(
            f"{thing.kind} {name} {thing.colour}" if order == "kind" else f"{thing} {name}"
            for name, thing in zip(CELLS, scene, strict=True)
            if thing
        )
    ),
    r"Describe the scene\.": lambda scene: ", ".join(
        f"{name} {thing.colour} {thing.kind}" for name, thing in zip(CELLS, scene, strict=True) if thing
    ),
}


def solve(text: str, scene: Scene) -> str:
    """The answer to a question from its words alone; for multiple choice, the text of the right option."""
    (answer,) = {rule(scene, *match.groups()) for words, rule in RULES.items() if (match := re.fullmatch(words, text))}
    return answer


def reply(turn: str, scene: Scene) -> str:
    """The right reply to a user turn, which may have options on lettered lines and a context line."""
    lines = [line for line in turn.split("\n") if not line.startswith(("Context: ", "Reference OCR token: "))]
    if not lines[-1].startswith("Answer with the "):
        (text,) = lines
        return solve(text, scene)
    options = tuple(line[3:] for line in lines[1:-1])
    assert [line[:3] for line in lines[1:-1]] == [f"{letter}. " for letter in "ABCD"[: len(options)]]
    assert len(set(options)) == len(options)
    right = solve(lines[0], scene)
    letter = "ABCD"[options.index(right)]
    return {"letter": letter, "name and the letter": f"{right} {letter}"}[lines[-1][len("Answer with the ") : -1]]
