"""The chance level of a benchmark: what a guesser scores that sees neither question nor picture.

It follows from the references alone, which every stored answer has, so that finished runs have one too.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence

from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.scoring import aggregate_of
from vrx.metrics.aggregate import mean
from vrx.metrics.answer import Answer
from vrx.metrics.boxes import LOC_BINS

NUM_GUESSERS = 20  # whose mean score is the chance level
SEED = 0
NUM_BOXES = 100  # that decide in which frame a metric reads boxes


def chance_level(config: BenchmarkConfig, answers: Sequence[Answer]) -> float | None:
    """The expected main score of a blind guesser, a fraction in [0, 1]; None for log-likelihoods.

    Multiple choice: the exact expectation of options drawn uniformly, anew for each rotation of a question. All others:
    the mean over `NUM_GUESSERS` seeded guessers, each of which answers every question with the reference of another
    question of the same type, and uses each reference once. None also for a single question, which has no other.
    """
    if config.output_type == "loglikelihood" or config.aggregate == "perplexity" or config.family == "document":
        return None
    if config.family == "multiple_choice":
        return _of_uniform_options(config, answers)
    if len(answers) < 2:
        return None
    in_order = sorted(answers, key=lambda answer: answer.id)
    metric = functools.cache(resolve_name("metric", config.metric))
    generator, by_question = random.Random(SEED), aggregate_of(config).by_question
    write = _writer(metric, in_order)
    levels = []
    for _ in range(NUM_GUESSERS):
        texts = [write(answer, generator) for answer in in_order]
        others = _other_questions(in_order, generator)
        scores = [metric(_guess(answer, texts[other])) for answer, other in zip(in_order, others, strict=True)]
        levels.append(mean(by_question(in_order, scores).values()))
    return mean(levels)


def _of_uniform_options(config: BenchmarkConfig, answers: Sequence[Answer]) -> float:
    """The probability of drawing the right letter, for all rotations of a question where they count as one."""
    is_circular = config.aggregate == "circular"
    by_question: dict[str, float] = defaultdict(lambda: 1.0)
    for answer in answers:
        question = f"group {answer.group}" if is_circular and answer.group else answer.id
        by_question[question] /= len(answer.choices)
    return mean(by_question.values())


def _other_questions(answers: Sequence[Answer], generator: random.Random) -> list[int]:
    """For each question the position of another of its type; of any type where its type has no other."""
    by_type: dict[str, list[int]] = defaultdict(list)
    for position, answer in enumerate(answers):
        by_type[answer.question_type].append(position)
    others = [0] * len(answers)
    for positions in by_type.values():
        generator.shuffle(positions)
        for position, following in zip(positions, [*positions[1:], positions[0]], strict=True):
            others[position] = following
        if len(positions) == 1:
            others[positions[0]] = generator.choice([p for p in range(len(answers)) if p != positions[0]])
    return others


def _guess(answer: Answer, text: str) -> Answer:
    """The answer with a guessed text, without what a score cannot depend on, so that equal guesses are scored once."""
    return dataclasses.replace(answer, id="", group="", text=text)


Writer = Callable[[Answer, random.Random], str]


def _writer(metric: Callable[[Answer], float], answers: Sequence[Answer]) -> Writer:
    """The function that writes the reference of a question as an answer; one of several references is drawn.

    A box is written in that frame in which the metric scores the references' own boxes highest.
    """
    boxed = [answer for answer in answers if answer.box is not None][:NUM_BOXES]
    if not boxed:
        return lambda answer, generator: generator.choice(answer.references)
    best = max(BOX_FRAMES, key=lambda frame: math.fsum(metric(_guess(answer, frame(answer))) for answer in boxed))
    return lambda answer, _: best(answer)


def _relative_box(answer: Answer, *, is_padded: bool) -> list[float]:
    """The reference box as shares of the image's sides, or of those of the square that it is padded to."""
    assert answer.box is not None and answer.image_size is not None
    width, height = answer.image_size
    if not is_padded:
        return [value / side for value, side in zip(answer.box, (width, height) * 2, strict=True)]
    side = max(width, height)
    shifts = ((side - width) // 2, (side - height) // 2) * 2
    return [(value + shift) / side for value, shift in zip(answer.box, shifts, strict=True)]


def _padded(answer: Answer) -> str:
    """LLaVA's form."""
    return _in_brackets(_relative_box(answer, is_padded=True))


def _unpadded(answer: Answer) -> str:
    """The form that lmms-eval reads."""
    return _in_brackets(_relative_box(answer, is_padded=False))


def _in_frame(answer: Answer) -> str:
    """The form of current models, in the coordinates of `box_frame`."""
    frame = answer.box_frame or (1, 1)
    relative = _relative_box(answer, is_padded=False)
    return _in_brackets([value * side for value, side in zip(relative, frame * 2, strict=True)])


def _in_brackets(box: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.4f}' for value in box)}]"


def _thousandths(answer: Answer) -> str:
    """Qwen-VL's form."""
    x1, y1, x2, y2 = (round(999 * value) for value in _relative_box(answer, is_padded=False))
    return f"({x1},{y1}),({x2},{y2})"


def _location_tokens(answer: Answer) -> str:
    """PaliGemma's form."""
    x1, y1, x2, y2 = _relative_box(answer, is_padded=False)
    return "".join(f"<loc{min(max(round(LOC_BINS * value), 0), LOC_BINS - 1):04d}>" for value in (y1, x1, y2, x2))


BOX_FRAMES = (_padded, _unpadded, _in_frame, _thousandths, _location_tokens)
