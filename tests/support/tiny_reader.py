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
    """The scene that a text describes, one word per cell: ` none b1-red-circle …`."""
    blank, *words = text.split(" ")
    assert blank == "" and len(words) == len(CELLS)
    parts = [word.split("-") for word in words]
    assert all(part == ["none"] or part[0] == cell for cell, part in zip(CELLS, parts, strict=True))
    return tuple(None if part == ["none"] else Thing(*part[1:]) for part in parts)


def single(cells: list[int]) -> int:
    (cell,) = cells  # otherwise the question would be ambiguous
    return cell


def find_thing(scene: Scene, name: str) -> int:
    """The cell of the only thing with this name: `red-circle`, `circle`."""
    words = name.split("-")
    return single(
        [cell for cell, thing in enumerate(scene) if thing and [thing.colour, thing.kind][-len(words) :] == words]
    )


def letters(things: tuple[Thing | None, ...]) -> list[Thing]:
    return [thing for thing in things if thing and thing.kind not in SHAPES]


def kind_at(scene: Scene, cell: int) -> str:
    return scene[cell].kind if scene[cell] else "none"


def classify(scene: Scene, cell: int, options: set[str]) -> str:
    if options == {"warm", "cold"}:
        return "warm" if scene[cell].colour in WARM else "cold"
    assert options == {"letter", "shape"}
    return "shape" if scene[cell].kind in SHAPES else "letter"


def beside(scene: Scene, words: str, name: str) -> str:
    cell = find_thing(scene, name)
    other = cell + STEPS[words]
    assert 0 <= other < GRID * GRID and (words in ("above", "below") or other // GRID == cell // GRID)
    return kind_at(scene, other)


def box(cell: int) -> str:
    row, column = divmod(cell, GRID)
    return "[" + ", ".join(f"{edge / GRID:.2f}" for edge in (column, row, column + 1, row + 1)) + "]"


def read(scene: Scene, line: str, name: str) -> str:
    first = CELLS.index(f"a{name}" if line == "row" else f"{name}1")
    things = scene[first : first + GRID] if line == "row" else scene[first::GRID]
    return " ".join(thing.kind for thing in letters(things))


CELL_NAME, THING = r"([a-c][1-3])", r"(\w+(?:-\w+)?)"
RULES: dict[str, Callable[..., str]] = {
    rf"What is at {CELL_NAME}\?": lambda scene, name: kind_at(scene, CELLS.index(name)),
    rf"What color is at {CELL_NAME}\?": lambda scene, name: scene[CELLS.index(name)].colour,
    rf"What color is the {THING}\?": lambda scene, name: scene[find_thing(scene, name)].colour,
    r"How many are (circle|square|triangle|crosse?)s\?": lambda scene, kind: str(
        sum(thing is not None and thing.kind == kind.replace("crosse", "cross") for thing in scene)
    ),
    rf"How many are ({'|'.join(COLOURS)})\?": lambda scene, colour: str(
        sum(thing is not None and thing.colour == colour for thing in scene)
    ),
    rf"Is there a {THING}\?": lambda scene, name: "yes" if name in map(str, scene) else "no",
    rf"Where is the {THING}\?": lambda scene, name: CELLS[find_thing(scene, name)],
    rf"Which letter is at {CELL_NAME}\?": lambda scene, name: letters((scene[CELLS.index(name)],))[0].kind,
    r"Which letter is (\w+)\?": lambda scene, colour: (
        letters(scene)[single([number for number, thing in enumerate(letters(scene)) if thing.colour == colour])].kind
    ),
    r"Read (row|column) (\w)\.": read,
    rf"What is (left of|right of|above|below) the {THING}\?": beside,
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


def solve(text: str, scene: Scene, options: tuple[str, ...] = ()) -> str:
    """The answer to a question from its words alone; for multiple choice, the text of the right option."""
    if match := re.fullmatch(rf"Which is at {CELL_NAME}\?", text):
        return classify(scene, CELLS.index(match[1]), set(options))
    (answer,) = {rule(scene, *match.groups()) for words, rule in RULES.items() if (match := re.fullmatch(words, text))}
    return answer


def reply(turn: str, scene: Scene) -> str:
    """The right reply to a user turn, which may have options on lettered lines and a context line."""
    lines = [line for line in turn.split("\n") if not line.startswith(("Context: ", "Reference OCR token: "))]
    if lines[-1] != "Answer with the letter.":
        (text,) = lines
        return solve(text, scene)
    options = tuple(line[3:] for line in lines[1:-1])
    assert [line[:3] for line in lines[1:-1]] == [f"{letter}. " for letter in "ABCD"[: len(options)]]
    assert len(set(options)) == len(options)
    return "ABCD"[options.index(solve(lines[0], scene, options))]
