"""The rows of question files, by family: what readers yield and families read.

A row with several references, options or captions has them as a list. Keys with the value None are not written.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ShortAnswerRow(TypedDict):
    """A question with its accepted answers; `choices` are options, or the answer key's form of the reference."""

    id: str
    question: str
    answers: list[str]
    image: NotRequired[str | None]
    question_type: NotRequired[str]
    choices: NotRequired[list[str] | None]


class MultipleChoiceRow(TypedDict):
    """A question with options, A first; `answer` is a letter, `group` is shared by all rotations of one question."""

    id: str
    question: str
    choices: list[str]
    answer: str
    image: NotRequired[str | None]
    hint: NotRequired[str | None]
    group: NotRequired[str]
    question_type: NotRequired[str]


class GroundingRow(TypedDict):
    """A description of a region; `box` is (x1, y1, x2, y2), all sizes are pixels of the image."""

    id: str
    question: str
    box: list[float]
    width: int
    height: int
    image: NotRequired[str | None]


class DocumentRow(TypedDict):
    """A text; its words and bytes are counted by the family unless the row has their numbers."""

    id: str
    text: str
    num_words: NotRequired[int]
    num_bytes: NotRequired[int]
    question_type: NotRequired[str]


QuestionRow = ShortAnswerRow | MultipleChoiceRow | GroundingRow | DocumentRow
