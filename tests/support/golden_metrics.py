"""Golden cases of the metrics and texts to try metrics on.

Each golden file says in "source" which scorers, at which commit, made its scores, and in "rule" what they do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from vrx.metrics import other_toolkits, per_answer
from vrx.metrics.answer import Answer

Metric = Callable[[Answer], float]
FILES = Path(__file__).parents[1].glob("golden/*.json")
GOLDEN = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}


# golden file -> name of a rule there -> the metric that implements it
RULES = {
    "ocrvqa": {
        "qwen_exact": per_answer.exact_match,
        "vlmevalkit_ocrvqa_accuracy": per_answer.exact_match,
        "qwen_relaxed_as_called": per_answer.relaxed_accuracy_as_called,
        "relaxed_target_is_gold": per_answer.relaxed_accuracy,
        "paper_repo_containment": per_answer.containment,
        "lmms_chartqa_relaxed": other_toolkits.relaxed_accuracy_unstripped,
        "docvqa_official_anls": per_answer.anls,
        "lmms_eval_anls": per_answer.anls,
        "vlmevalkit_docvqa_anls": per_answer.anls,
    },
    "relaxed_accuracy": {
        "qwen_evaluate_relaxed_accuracy(as called: target=prediction)": per_answer.relaxed_accuracy_as_called,
        "vlmevalkit(target=gold, prediction.strip())": per_answer.relaxed_accuracy,
        "relaxed_correctness(target=gold,prediction=pred)": other_toolkits.relaxed_accuracy_unstripped,
        "lmms_eval_chartqa(prediction,gold)": other_toolkits.relaxed_accuracy_unstripped,
    },
    "gqa": {
        "llava_convert_plus_gqa_eval": per_answer.gqa_match,
        "lmms_eval_exact_match(ignore_case,ignore_punctuation)": per_answer.exact_match_ignoring_punctuation,
        "vlmevalkit_accuracy": per_answer.exact_match,
        "qwen_vl": other_toolkits.gqa_match_qwen,
    },
    "textvqa": {
        "llava_m4c": per_answer.vqa_accuracy,
        "lmms_eval_textvqa": per_answer.vqa_accuracy,
        "vlmevalkit_vqa_score": other_toolkits.vqa_accuracy_vlmevalkit,
    },
    "mmbench": {
        "vlmevalkit_exact_matching": per_answer.mmbench_letter,
        "lmms_eval_can_infer(2023 rules)": other_toolkits.mmbench_letter_lmms,
        "strict_letter_equality": other_toolkits.letter_alone,
        "strict_first_char": other_toolkits.letter_first,
    },
    "scienceqa": {
        "official_score": per_answer.scienceqa_letter,
        "vlmevalkit_exact_matching": per_answer.mmbench_letter,
        "lmms_eval": other_toolkits.scienceqa_letter_lmms,
    },
    "mmlu": {
        "simple_evals_mmlu": other_toolkits.mmlu_letter_simple_evals,
        "lm_eval_mmlu_generative": per_answer.mmlu_letter,
        "first_char": per_answer.mmlu_first_letter,
        "llava_scienceqa_rule": per_answer.scienceqa_letter,
        "vlmevalkit_can_infer": per_answer.mmbench_letter,
    },
    "bbh": {
        "exact": per_answer.bbh_match,
        "lm_eval_zeroshot_strict": per_answer.bbh_match_normalised,
        "lm_eval_flexible_score": per_answer.bbh_match_lenient,
    },
    "tdiuc": {"official_score": per_answer.tdiuc_match},
}
RULES["docvqa"] = RULES["ocrvqa"]
BOX_RULES = {
    "conv_llava_padded": (per_answer.box_iou, per_answer.box_accuracy),
    "lmms_eval_rec": (per_answer.box_iou_unpadded, per_answer.box_accuracy_unpadded),
    "qwen_vl": (per_answer.box_iou_qwen, per_answer.box_accuracy_qwen),
}


def golden_answer(item: dict[str, Any]) -> Answer:
    gold, choices = item["answers"], item.get("choices", ())
    if "task" in item:
        choices = re.findall(r"^\([A-Z]\) (.*)$", item.get("question", ""), re.MULTILINE)
    if "gold_in_answerkey" in item:
        choices = GOLDEN["tdiuc"]["answerkey"]
    return Answer(
        id="golden",
        text=item["prediction"] or "",  # None: the prediction was missing, which is as wrong as an empty one
        references=(gold,) if isinstance(gold, str) else tuple(gold),
        choices=tuple(choices.values() if "A" in choices else choices),
        question_type=item.get("task", item.get("question_type", "")),
    )


def golden_cases(*files: str) -> Iterator[Any]:
    """The cases of golden files: a metric, an answer, the published score."""
    for file in files:
        rules = RULES[file]
        for number, item in enumerate(GOLDEN[file]["items"]):
            published, answer = (
                {"official_score": item["official_score"]} | item.get("scores", {}),
                golden_answer(item),
            )
            for rule in sorted(rules.keys() & published.keys()):
                yield pytest.param(rules[rule], answer, published[rule], id=f"{file}-{number}-{rule}")


no_deadline = settings(deadline=None)  # a busy machine is no failure
PER_ANSWER = sorted(
    {metric for rules in RULES.values() for metric in rules.values()}
    | {metric for pair in BOX_RULES.values() for metric in pair}
    | {
        per_answer.tdiuc_match_authors,
        per_answer.mmlu_log_likelihood,
        other_toolkits.box_iou_tri,
        other_toolkits.box_iou_vlmevalkit,
    },
    key=lambda metric: metric.__name__,
)
PIECES = "[ [[ ] ( ) ),( , . : * - \n A B. Z 0.1 100 nan 1e999 inf % ² the one point million yes answer is İ ß"
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from([" ", *PIECES.split(" ")]), max_size=25).map("".join))
numbers = st.integers(1, 2000)
