"""What a model said to one question, and all that scoring it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated text with everything that scoring it takes.

    `references` are the accepted answers: of a multiple-choice question the right letter. `choices` are the
    options' wordings, A first (None where a row has no such option). `group` is what the rotations of one
    question share. `box` is the gold box (x1, y1, x2, y2) in pixels, `image_size` is (width, height).
    `choice_log_probs` are those of the letters as the first token, `log_likelihood` (nats) that of the reference or
    of a whole document; the numbers say over how much.
    """

    id: str
    text: str
    references: tuple[str, ...]
    choices: tuple[str, ...] = ()
    question_type: str = ""
    group: str = ""
    image_size: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    choice_log_probs: tuple[float, ...] = ()
    log_likelihood: float | None = None
    num_tokens: int = 0
    num_words: int = 0
    num_bytes: int = 0
