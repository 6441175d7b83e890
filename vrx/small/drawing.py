"""Drawing a scene: pictures composed on cards and a backdrop, words in a font."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from vrx.small.scenes import COLOURS, CORNERS, HALF, SIDE, WORD_HEIGHT, Scene
from vrx.small.stock import Stock, font

INK = (20, 20, 30)
LINE = SIDE // 5  # pixels from one line of a page to the next


def draw(scene: Scene, stock: Stock, *, seed: int) -> Image.Image:
    """A scene as RGB, SIDE x SIDE; the seed sets the backdrop."""
    rng = np.random.default_rng(seed)
    image = _backdrop(rng, is_page=bool(scene.lines))
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        canvas.rounded_rectangle(thing.card, radius=6, fill=COLOURS[thing.colour])
        left, top, right, bottom = thing.box
        picture = stock.picture(thing.name, thing.style).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        image.paste(picture, (left, top), picture)
        if thing.word:
            middle = ((thing.card[0] + thing.card[2]) // 2, thing.card[3] + WORD_HEIGHT // 2)
            left = CORNERS[thing.place][0] * HALF
            write(canvas, thing.word, middle, scene.font, size=16, between=(left, left + HALF))
    if scene.title:
        write(canvas, scene.title, (SIDE // 2, 18), scene.font, size=24, between=(0, SIDE))
        write(canvas, scene.author, (SIDE // 2, SIDE - 14), scene.font, size=20, between=(0, SIDE))
    for number, (word, value) in enumerate(scene.lines):
        middle = (SIDE // 2, LINE * (number + 1) - LINE // 4)
        write(canvas, f"{word} {value}", middle, scene.font, size=20, between=(0, SIDE))
    return image


def write(
    canvas: ImageDraw.ImageDraw,
    text: str,
    middle: tuple[int, int],
    font_name: str,
    *,
    size: int,
    between: tuple[int, int],
) -> None:
    """Write a text around a point, in the largest font up to `size` pixels that fits `between` two columns."""
    left, right = between[0] + 3, between[1] - 3
    while size > 6 and canvas.textlength(text, font=font(font_name, size)) > right - left:
        size -= 1
    half = canvas.textlength(text, font=font(font_name, size)) / 2
    x = min(max(middle[0], left + half), right - half)
    canvas.text((x, middle[1]), text, font=font(font_name, size), fill=INK, anchor="mm")


def _backdrop(rng: np.random.Generator, *, is_page: bool) -> Image.Image:
    """A gradient between two light, muted colours; a page is nearly white."""
    low, high = (242, 255) if is_page else (165, 225)
    top, bottom = rng.uniform(low, high, 3), rng.uniform(low, high, 3)
    slope = np.linspace(0, 1, SIDE)[:, None, None]
    pixels = np.broadcast_to(top + (bottom - top) * slope, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.astype(np.uint8))
