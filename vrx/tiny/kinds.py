"""Kinds of questions by use: those put to pictures, and those that the backbone learns from text."""

from __future__ import annotations

from vrx.tiny.choices import choice, fact, fact_choice, science
from vrx.tiny.lists import by_kind, by_name, description, tally
from vrx.tiny.questions import (
    Maker,
    box_of_cell,
    colour_at,
    colour_of,
    count,
    count_colour,
    letter_at,
    letter_of_colour,
    line,
    ocr,
    position,
    presence,
    recognition,
    region,
    relation,
)

TYPED = (recognition, colour_at, colour_of, count, count_colour, presence, position)
EITHER = (*TYPED, letter_at, letter_of_colour, line, relation, choice, science, region)  # for a picture or for words
VISUAL: tuple[Maker, ...] = (*EITHER, ocr, description)
TEXT: tuple[Maker, ...] = (*EITHER, box_of_cell, description, by_kind, by_name, tally, fact, fact_choice)
