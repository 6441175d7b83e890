"""The rules of evaluation toolkits where they differ from those of the benchmarks' and the paper's authors.

Many papers report numbers by these rules, so the YAMLs of the benchmarks name them as `extra_metrics`. Each function is
written from the toolkit's published rule and has the same contract as those of `vrx.metrics.per_answer`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from vrx.metrics import boxes, normalization
from vrx.metrics.answer import Answer
from vrx.metrics.boxes import Box

# ---- short answers


def relaxed_accuracy_unstripped(answer: Answer) -> float:
    """1 if the text is a number within 5 % of a reference, or equals it but for case; blanks count (lmms-eval)."""
    return float(any(normalization.relaxed_equal(target=gold, prediction=answer.text) for gold in answer.references))


def vqa_accuracy_vlmevalkit(answer: Answer) -> float:
    """`vqa_accuracy` with VLMEvalKit's normalisation: "5." stays, commas and "'s" are not treated first."""
    normalised = normalization.vqa_normalised_vlmevalkit
    return normalization.soft_score(normalised(answer.text), [normalised(gold) for gold in answer.references])


def gqa_match_qwen(answer: Answer) -> float:
    """1 if the first phrase, cut after "is", "are", "a", "an", "the" and before "of", is the reference (Qwen-VL).

    The words are found inside other words too: "pizza place" is cut to "place", because "a " is in it.
    """
    text = re.split("[.,!]", answer.text.strip(), maxsplit=1)[0].lower()
    for word in ("is ", "are ", "a ", "an ", "the "):
        text = text.split(word)[1] if word in text else text
    text = text.split(" of")[0].strip()
    return float(any(text == gold.strip().lower() for gold in answer.references))


# ---- multiple choice


def letter_alone(answer: Answer) -> float:
    """1 if the text is the right letter and nothing else."""
    return float(answer.text in answer.references)


def letter_first(answer: Answer) -> float:
    """1 if the text begins with the right letter, whatever follows."""
    return float(answer.text[:1] in answer.references)


def scienceqa_letter_lmms(answer: Answer) -> float:
    """1 if the text is the right letter in either case, outer blanks aside, or begins with it and a full stop."""
    text = answer.text
    return float(any(text.strip().lower() == gold.lower() or text[:2] == f"{gold}." for gold in answer.references))


def mmlu_letter_simple_evals(answer: Answer) -> float:
    """1 if what follows the first "Answer:" is the right letter, in upper case (OpenAI's simple-evals)."""
    match = re.search(r"answer[ \t]*:[ \t]*\$?([A-D])", answer.text, re.IGNORECASE)
    return float(match is not None and match.group(1) in answer.references)


MARKED = ["{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{})."]


def mmbench_letter_lmms(answer: Answer) -> float:
    """1 if lmms-eval, without a judge model, infers the right option, by VLMEvalKit's rules of 2023.

    The option is the only letter A to E among the words, except "A" among more than three words; else the only letter
    with a punctuation mark or brackets; else the only option whose wording the text contains.
    """
    return float(_inferred_2023(answer.text, answer.choices) in answer.references)


def _inferred_2023(text: str, choices: Sequence[str]) -> str | None:
    words = text.split()
    if "Failed to obtain answer via API" not in text:
        alone = [letter for letter in "ABCDE" if letter in words]
        if len(alone) == 1 and not (alone == ["A"] and len(words) > 3):
            return alone[0]
        for mark in MARKED:
            marked = [letter for letter in "ABCDE" if mark.format(letter) in words]
            if len(marked) == 1:
                return marked[0]
    wordings = [(letter, str(wording).lower()) for letter, wording in zip("ABCDE", choices, strict=False)]
    contained = [letter for letter, wording in wordings if wording in text.lower()]
    return contained[0] if len(contained) == 1 else None


# ---- grounding


def box_iou_tri(answer: Answer) -> float:
    """IoU of a text that is exactly `[x1, y1, x2, y2]`, relative to the unpadded image (TRI's vlm-evaluation).

    A box that leaves the image or has no area scores 0; the reference is rounded to two decimals.
    """
    try:
        box = ast.literal_eval(answer.text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return 0.0
    plain = isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)
    if not plain or not all(0 <= value <= 1 for value in box) or box[0] >= box[2] or box[1] >= box[3]:
        return 0.0
    (x1, y1, x2, y2), (width, height) = boxes.gold(answer)
    rounded = (round(x1 / width, 2), round(y1 / height, 2), round(x2 / width, 2), round(y2 / height, 2))
    return boxes.iou((box[0], box[1], box[2], box[3]), rounded)


NUMBER = r"[+-]?(?:\d*\.)?\d+(?:[eE][+-]?\d+)?"
BETWEEN = r"(?:\s*,\s*|\s+)"  # two numbers of a box


def box_iou_vlmevalkit(answer: Answer) -> float:
    """IoU of the first four numbers in brackets, or else of the first four numbers (VLMEvalKit).

    Numbers up to 1.5 are fractions of the image, up to 1000 thousandths of it, else pixels. The box is clipped to the
    image, and its corners may come in any order.
    """
    reference, (width, height) = boxes.gold(answer)
    bracketed = re.search(rf"\[\s*{BETWEEN.join([f'({NUMBER})'] * 4)}\s*\]", answer.text)
    numbers = list(map(float, bracketed.groups() if bracketed else re.findall(NUMBER, answer.text)[:4]))
    if len(numbers) < 4:
        return 0.0
    largest = max(map(abs, numbers))
    scale = 1.0 if largest <= 1.5 else 1000.0 if largest <= 1000 else None
    xs, ys = numbers[0::2], numbers[1::2]
    if scale is not None:
        xs, ys = [x / scale * width for x in xs], [y / scale * height for y in ys]
    left, right = sorted(min(max(x, 0.0), float(width)) for x in xs)
    top, bottom = sorted(min(max(y, 0.0), float(height)) for y in ys)
    box: Box = (left, top, right, bottom)
    return boxes.iou(box, reference)


# ---- boxes in the coordinates of current models


def box_iou_in_frame(answer: Answer) -> float:
    """IoU of the text's first box in the frame of `box_frame` (see `boxes.read_in_frame`); without a frame, in [0, 1].

    Qwen2.5-VL answers in pixels of the picture as resized for it; Qwen3-VL and InternVL in thousandths.
    """
    (x1, y1, x2, y2), (width, height) = boxes.gold(answer)
    read = boxes.read_in_frame(answer.text, answer.box_frame or (1, 1))
    return boxes.iou(read, (x1 / width, y1 / height, x2 / width, y2 / height))


def box_accuracy_in_frame(answer: Answer) -> float:
    """1 if `box_iou_in_frame` is at least one half."""
    return float(box_iou_in_frame(answer) >= 0.5)


def box_iou_loc(answer: Answer) -> float:
    """IoU of the box in the text's first four location tokens (PaliGemma)."""
    (x1, y1, x2, y2), (width, height) = boxes.gold(answer)
    return boxes.iou(boxes.read_loc_tokens(answer.text), (x1 / width, y1 / height, x2 / width, y2 / height))


def box_accuracy_loc(answer: Answer) -> float:
    """1 if `box_iou_loc` is at least one half."""
    return float(box_iou_loc(answer) >= 0.5)
