"""The answer of a model to one question, with everything that scoring needs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

_QUESTION = {"source": "question"}  # fields that come from the benchmark's data; all others come from the model


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated text with everything that scoring it takes.

    `references` are the accepted answers: for a multiple-choice question the right letter. `choices` are the
    options' wordings, A first (None where a row has no such option). `group` is shared by all rotations of one
    question. `box` is the reference box (x1, y1, x2, y2) in pixels, `image_size` is (width, height).
    `choice_log_probs` are the log-probabilities of the option letters as the first token. `log_likelihood` (nats) is
    that of the reference or of a whole document of `num_tokens`, `num_words` and `num_bytes`. `box_frame` is (width,
    height) of the image in the coordinates of the model's boxes, where these are not pixels of the image.
    """

    id: str
    text: str
    references: tuple[str, ...] = field(metadata=_QUESTION)
    choices: tuple[str, ...] = field(default=(), metadata=_QUESTION)
    question_type: str = field(default="", metadata=_QUESTION)
    group: str = field(default="", metadata=_QUESTION)
    image_size: tuple[int, int] | None = field(default=None, metadata=_QUESTION)
    box: tuple[float, float, float, float] | None = field(default=None, metadata=_QUESTION)
    choice_log_probs: tuple[float, ...] = ()
    log_likelihood: float | None = None
    num_tokens: int = 0
    num_words: int = 0
    num_bytes: int = 0
    box_frame: tuple[float, float] | None = None


FIELDS = tuple(entry.name for entry in fields(Answer))
QUESTION_FIELDS = tuple(entry.name for entry in fields(Answer) if entry.metadata.get("source") == "question")
