"""A scene of the embedded world: a 3 x 3 grid of coloured shapes, coloured letters and empty cells."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

GRID = 3  # cells along a side
CELL = 16  # pixels along a side of a cell: two by two patches of the vision tower, which thus shows no thing whole
PATCH = 8  # pixels along a side of a patch
SIZE = GRID * CELL
PATCHES = SIZE // PATCH  # along a side
COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (235, 225, 50),
    "green": (40, 170, 70),
    "blue": (50, 90, 225),
    "purple": (150, 60, 190),
}
SHAPES = ("circle", "square", "triangle", "cross")
GLYPHS = {  # five rows of five pixels, drawn at twice the size
    "h": ("#...#", "#...#", "#####", "#...#", "#...#"),
    "k": ("#..#.", "#.#..", "##...", "#.#..", "#..#."),
    "m": ("#...#", "##.##", "#.#.#", "#...#", "#...#"),
    "r": ("####.", "#...#", "####.", "#..#.", "#...#"),
    "s": (".####", "#....", ".###.", "....#", "####."),
    "t": ("#####", "..#..", "..#..", "..#..", "..#.."),
    "x": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
    "z": ("#####", "...#.", "..#..", ".#...", "#####"),
}
LETTERS = tuple(GLYPHS)
THINGS = SHAPES + LETTERS


@dataclass(frozen=True)
class Thing:
    """A coloured shape or letter; `str()` gives its name: `red circle`."""

    colour: str
    kind: str

    def __str__(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def is_letter(self) -> bool:
        """Whether this is a letter and not a shape."""
        return self.kind in GLYPHS


Scene = tuple[Thing | None, ...]  # the cells row by row, GRID * GRID of them


def cell_name(cell: int) -> str:
    """The name of a cell in questions: column letter and row number, from `a1` (top left) to `c3` (bottom right)."""
    return f"{'abc'[cell % GRID]}{cell // GRID + 1}"


def neighbour(cell: int, down: int, right: int) -> int | None:
    """The cell so many rows below and columns to the right of a cell; None outside the grid."""
    row, column = cell // GRID + down, cell % GRID + right
    return row * GRID + column if 0 <= row < GRID and 0 <= column < GRID else None


def patch_cells() -> list[int]:
    """The cell that each patch of the vision tower lies in, patches row by row."""
    side = CELL // PATCH
    return [row // side * GRID + column // side for row in range(PATCHES) for column in range(PATCHES)]


def box(cell: int) -> tuple[float, float, float, float]:
    """Corners (x1, y1, x2, y2) of a cell as fractions of the image."""
    row, column = divmod(cell, GRID)
    return column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID


def sample(rng: random.Random) -> Scene:
    """A random scene of four to six different things."""
    number = rng.randint(4, 6)
    things: list[Thing] = []
    while len(things) < number:
        kind = rng.choice(rng.choice((SHAPES, LETTERS)))
        thing = Thing(rng.choice(tuple(COLOURS)), kind)
        if thing not in things:
            things.append(thing)
    cells: list[Thing | None] = [*things, *[None] * (GRID * GRID - number)]
    rng.shuffle(cells)
    return tuple(cells)


def _shape_mask(kind: str) -> np.ndarray:
    """The pixels that a thing covers inside its cell: bool, shape (CELL, CELL)."""
    mask = np.zeros((CELL, CELL), dtype=bool)
    y, x = np.mgrid[0:CELL, 0:CELL] - (CELL - 1) / 2
    if kind in GLYPHS:
        glyph = np.array([[character == "#" for character in row] for row in GLYPHS[kind]])
        mask[3:13, 3:13] = glyph.repeat(2, axis=0).repeat(2, axis=1)
    elif kind == "circle":
        mask = x**2 + y**2 <= 36
    elif kind == "square":
        mask = np.maximum(abs(x), abs(y)) <= 5.5
    elif kind == "triangle":
        mask = (abs(x) <= (y + 6.5) / 2) & (y <= 6)
    else:
        mask = (np.minimum(abs(x), abs(y)) <= 1.6) & (np.maximum(abs(x), abs(y)) <= 6)
    return mask


MASKS = {kind: _shape_mask(kind) for kind in THINGS}


def draw(scene: Scene, *, seed: int) -> Image.Image:
    """Draw a scene as a SIZE x SIZE RGB image; the seed sets background, brightness and pixel noise."""
    rng = np.random.default_rng(seed)
    pixels = np.full((SIZE, SIZE, 3), rng.uniform(60, 110), dtype=np.float32)
    for cell, thing in enumerate(scene):
        if thing is not None:
            row, column = divmod(cell, GRID)
            window = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            window[MASKS[thing.kind]] = np.array(COLOURS[thing.colour]) * rng.uniform(0.85, 1.1)
    pixels += rng.normal(0, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def describe(scene: Scene, rng: random.Random) -> str:
    """The things in words, in random order: ` c3 blue k, b1 red circle`.

    The space precedes its word, so that the first token is the same as in the middle of a line.
    """
    parts = [f" {cell_name(cell)} {thing}" for cell, thing in enumerate(scene) if thing]
    rng.shuffle(parts)
    return ",".join(parts)
