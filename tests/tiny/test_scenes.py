"""Pictures and words of the tiny world show exactly its scenes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_reader import CELLS, parse, see

from vrx.tiny import scenes
from vrx.tiny.scenes import COLOURS, GRID, MASKS, SIZE, Thing

repeatable = settings(deadline=None, max_examples=60, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


@repeatable
@given(seed=seeds)
def test_a_scene_has_four_to_six_different_things(seed: int):
    things = [thing for thing in scenes.sample(random.Random(seed)) if thing]
    assert 4 <= len(things) == len(set(things)) <= 6


@repeatable
@given(seed=seeds, noise=seeds)
def test_a_picture_shows_its_scene(seed: int, noise: int):
    scene = scenes.sample(random.Random(seed))
    picture = scenes.draw(scene, seed=noise)
    assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")
    assert see(picture) == scene


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_thing_can_be_recognized_in_a_picture(colour: str, kind: str):
    scene = (*[None] * 5, Thing(colour, kind), *[None] * 3)
    assert see(scenes.draw(scene, seed=0)) == scene


@repeatable
@given(seed=seeds)
def test_a_description_names_every_thing_of_the_scene(seed: int):
    scene = scenes.sample(random.Random(seed))
    assert parse(scenes.describe(scene, random.Random(seed))) == scene


def test_cells_are_named_by_column_letter_and_row_number():
    assert [scenes.cell_name(cell) for cell in range(GRID * GRID)] == CELLS
