"""Metrics of a single answer: a score in [0, 1] by the rules of the benchmarks' and the paper's authors.

Each function follows one published scorer exactly, odd cases included, because the numbers it is compared with
were made that way; the docstring names the scorer. Where several scorers are in use, each has its function.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable

from vrx.config.errors import UserError
from vrx.metrics import answer_extraction, boxes, normalization
from vrx.metrics.answer import Answer


def _any_reference(answer: Answer, equal: Callable[[str, str], bool]) -> float:
    return float(any(equal(answer.text, gold) for gold in answer.references))


# ---- short answers


def exact_match(answer: Answer) -> float:
    """1 if the text is a reference, but for case and outer blanks (Qwen-VL, VLMEvalKit: OCRVQA accuracy)."""
    return _any_reference(answer, lambda text, gold: text.strip().lower() == gold.strip().lower())


def exact_match_ignoring_punctuation(answer: Answer) -> float:
    """1 if the text is a reference, but for case and ASCII punctuation; blanks count (lmms-eval: GQA)."""
    level = normalization.unpunctuated
    return _any_reference(answer, lambda text, gold: level(text) == level(gold))


def containment(answer: Answer) -> float:
    """1 if text or reference contains the other, case and outer blanks aside (the paper authors' code).

    This is the paper's "certain margin of error" on OCRVQA. An empty text is in every reference and scores 1.
    """

    def either_way(text: str, gold: str) -> bool:
        text, gold = text.strip().lower(), gold.strip().lower()
        return text in gold or gold in text

    return _any_reference(answer, either_way)


def anls(answer: Answer) -> float:
    """Normalised Levenshtein similarity to the closest reference, 0 below one half (DocVQA's own script).

    Case and repeated blanks are no edits, but count in the length that edits are divided by.
    """
    best = max((normalization.similarity(answer.text, gold) for gold in answer.references), default=0.0)
    return best if best >= 0.5 else 0.0


def relaxed_accuracy(answer: Answer) -> float:
    """1 if the text is a number within 5 % of a reference, or equals it but for case (ChartQA, VLMEvalKit).

    Only the text is stripped of outer blanks; "5%" is 0.05; a reference of zero is compared as text.
    """
    relaxed_equal = normalization.relaxed_equal
    return _any_reference(answer, lambda text, gold: relaxed_equal(target=gold, prediction=text.strip()))


def relaxed_accuracy_as_called(answer: Answer) -> float:
    """Relaxed accuracy as Qwen-VL's script calls it, arguments swapped: the 5 % are of the text's number."""
    relaxed_equal = normalization.relaxed_equal
    return _any_reference(answer, lambda text, gold: relaxed_equal(target=text.strip(), prediction=gold))


def vqa_accuracy(answer: Answer) -> float:
    """Soft accuracy: 1, 2, 3 agreeing annotators of ten give 0.3, 0.6, 0.9, more give 1 (TextVQA in LLaVA).

    That is the mean over all leave-one-out subsets of min(1, agreeing / 3), after EvalAI's normalisation. It is
    made for ten references: with fewer than four even unanimity stays below 1, and a single one scores 0.
    """
    normalised = normalization.vqa_normalised
    return normalization.soft_score(normalised(answer.text), [normalised(gold) for gold in answer.references])


def gqa_match(answer: Answer) -> float:
    """1 if the lower-cased text without final full stops is the reference (LLaVA's converter, then GQA's)."""
    return float(answer.text.rstrip(".").lower() in answer.references)


def tdiuc_match(answer: Answer) -> float:
    """1 if the text is the reference, character for character (TDIUC's script).

    `choices`, if given, is TDIUC's answer key: a reference outside it counts as wrong whatever the text.
    """
    return float(answer.text in answer.references and (not answer.choices or answer.text in answer.choices))


def tdiuc_match_authors(answer: Answer) -> float:
    """1 if text and reference agree after the paper authors' normalisation (`answer_extraction.tdiuc_equal`).

    The authors drop the questions of type "absurd" and report the plain mean.
    """
    return _any_reference(answer, answer_extraction.tdiuc_equal)


# ---- multiple choice


def _options(answer: Answer) -> dict[str, str]:
    """Letter -> wording of the options there are; tables fill the missing ones with None or NaN."""
    lettered = zip(string.ascii_uppercase, answer.choices or (), strict=False)
    return {letter: str(choice) for letter, choice in lettered if choice is not None and choice == choice}


def scienceqa_letter(answer: Answer) -> float:
    """1 if the text gives the right letter in one of the forms of LLaVA's script (`answer_extraction.llava_letter`).

    The paper's IMG-Accuracy is the mean over the questions that have an image.
    """
    letter = answer_extraction.llava_letter(answer.text)
    return float(letter in answer.references and (not answer.choices or letter in _options(answer)))


def mmbench_letter(answer: Answer) -> float:
    """1 if VLMEvalKit, without a judge model, infers the right option (`answer_extraction.inferred_letter`).

    Undecided is wrong. MMBench counts questions, not rows: aggregate with `circular`.
    """
    options = _options(answer) or dict.fromkeys("ABCD", "")
    return float(answer_extraction.inferred_letter(answer.text, options) in answer.references)


def mmlu_letter(answer: Answer) -> float:
    """1 if the first line is the right letter but for case, punctuation and outer blanks (lm-eval)."""
    line = normalization.unpunctuated(answer.text.split("\n", 1)[0].strip())
    return float(any(line == normalization.unpunctuated(gold) for gold in answer.references))


def mmlu_first_letter(answer: Answer) -> float:
    """1 if the text, outer blanks aside, begins with the right letter in either case, whatever follows."""
    return float(answer.text.strip()[:1].upper() in answer.references)


def mmlu_log_likelihood(answer: Answer) -> float:
    """1 if the right letter has the highest log-probability, the first of equals (hendrycks/test)."""
    if not answer.choice_log_probs:
        raise UserError(f"answer {answer.id!r} has no choice_log_probs, which mmlu_log_likelihood compares")
    best = answer.choice_log_probs.index(max(answer.choice_log_probs))
    return float(string.ascii_uppercase[best] in answer.references)


# ---- BIG-bench-Hard: the headline is the plain mean over tasks, so put the task into `question_type`


def bbh_match(answer: Answer) -> float:
    """1 if the text is the reference, character for character (BIG-Bench-Hard's published numbers)."""
    return float(answer.text in answer.references)


def bbh_match_normalised(answer: Answer) -> float:
    r"""1 if text and reference agree but for case, a final full stop, and any `,` `"` `\` or newline.

    lm-eval's zero-shot "strict-match", which despite its name is laxer than the official `bbh_match`.
    """
    level = normalization.bbh_normalised
    return _any_reference(answer, lambda text, gold: level(text) == level(gold))


def bbh_match_lenient(answer: Answer) -> float:
    """1 if the reference can be read off a free text, explanation and all (lm-eval's "flexible-extract").

    See `answer_extraction.bbh_target`. Options named by their wording are found only where `choices` are given.
    """
    options, level = _options(answer), normalization.bbh_normalised

    def equal(text: str, gold: str) -> bool:
        found = answer_extraction.bbh_target(text, gold, options, task=answer.question_type)
        return bool(found) and level(found) == level(gold)

    return _any_reference(answer, equal)


# ---- grounding


def box_iou(answer: Answer) -> float:
    """IoU of the text's first box, in LLaVA's frame: relative to the image padded to a square (conv-llava).

    The mean over answers is the mean IoU. See `boxes.read_padded`; a text without a box scores 0.
    """
    gold, image_size = boxes.gold(answer)
    return boxes.iou_in_pixels(boxes.read_padded(answer.text, image_size), gold)


def box_iou_unpadded(answer: Answer) -> float:
    """IoU of the text's first box, relative to the image as it is (lmms-eval; see `boxes.read_normalised`).

    A model that answers in LLaVA's padded frame reaches about 0.6 here, however good it is.
    """
    (x1, y1, x2, y2), (width, height) = boxes.gold(answer)
    return boxes.iou(boxes.read_normalised(answer.text), (x1 / width, y1 / height, x2 / width, y2 / height))


def box_iou_qwen(answer: Answer) -> float:
    """IoU of the text's first `(x1,y1),(x2,y2)`, in 0-999 of the image as it is (Qwen-VL)."""
    gold, image_size = boxes.gold(answer)
    return boxes.iou_in_pixels(boxes.read_qwen(answer.text, image_size), gold)


def box_accuracy(answer: Answer) -> float:
    """1 if `box_iou` is at least one half: "Precision @ 1" of RefCOCOg, in LLaVA's padded frame."""
    return float(box_iou(answer) >= 0.5)


def box_accuracy_unpadded(answer: Answer) -> float:
    """1 if `box_iou_unpadded` is at least one half (lmms-eval's ACC@0.5)."""
    return float(box_iou_unpadded(answer) >= 0.5)


def box_accuracy_qwen(answer: Answer) -> float:
    """1 if `box_iou_qwen` is at least one half (Qwen-VL's "Precision @ 1")."""
    return float(box_iou_qwen(answer) >= 0.5)


# ---- likelihood


def token_likelihood(answer: Answer) -> float:
    """The geometric mean of the probabilities of the reference's tokens, which is 1 / perplexity (Figure 1)."""
    if answer.log_likelihood is None or not answer.num_tokens:
        raise UserError(f"answer {answer.id!r} has no log_likelihood; set output_type: loglikelihood for its benchmark")
    return math.exp(min(0.0, answer.log_likelihood / answer.num_tokens))
