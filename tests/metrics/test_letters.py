"""Metrics of option letters and BIG-bench-Hard targets give what the official scorers gave (tests/golden)."""

from __future__ import annotations

import dataclasses

import pytest
from support.golden_metrics import GOLDEN, RULES, golden_cases

from vrx.metrics import per_answer
from vrx.metrics.answer import Answer


@pytest.mark.parametrize(("metric", "answer", "published"), list(golden_cases("mmbench", "scienceqa", "mmlu", "bbh")))
def test_metric_equals_the_published_score(metric, answer, published):
    assert metric(answer) == pytest.approx(published, abs=1e-9)


def test_every_published_rule_has_its_metric():
    """But two of lmms-eval's that the golden files name and do not tell."""
    without = {
        "mmbench": {"lmms_eval_static"},
        "mmlu": {"lmms_extract_mcq_answer"},
        "bbh": {"lm_eval_flexible_extract"},
    }
    for file, rules in RULES.items():
        rules_with_scores = {rule for item in GOLDEN[file]["items"] for rule in item.get("scores") or {}}
        assert rules_with_scores - rules.keys() == without.get(file, set())


@pytest.mark.parametrize("item", [item for item in GOLDEN["mmlu"]["items"] if "choice_logprobs" in item])
def test_mmlu_log_likelihood_equals_the_published_score(item):
    answer = Answer("a", "", (item["answers"],), choice_log_probs=tuple(item["choice_logprobs"]))
    assert per_answer.mmlu_log_likelihood(answer) == item["official_score"]


@pytest.mark.parametrize(
    ("text", "reference", "task", "score"),
    [
        ("They say the answer: B", "(B)", "snarks", 1),
        ("It was a kite, (A) or not", "(A)", "geometric_shapes", 1),
        ("A Kite!", "(B)", "geometric_shapes", 1),
        ("it is not plausible", "no", "sports_understanding", 1),
        ("it is not plausible", "no", "navigate", 0),
        ("Yes, he tells the truth", "No", "web_of_lies", 0),
        ("There are six", "6", "object_counting", 1),
        ("There are 12 of them, not 6", "6", "object_counting", 0),
        (") ] } because", ") ] }", "dyck_languages", 1),
        ("invalid, since", "invalid", "formal_fallacies", 1),
        ("b a: sorted, a b", "a b", "word_sorting", 1),
    ],
)
def test_lenient_bbh_reads_the_target_off_a_free_text(text, reference, task, score):
    answer = Answer("a", text, (reference,), choices=("circle", "kite"), question_type=task)
    assert per_answer.bbh_match_lenient(answer) == score


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_options_cannot_be_chosen(missing):
    answer = Answer("a", "C", ("C",), choices=("yes", "no", missing, missing))
    assert per_answer.mmbench_letter(answer) == per_answer.scienceqa_letter(answer) == 0
    assert per_answer.mmbench_letter(dataclasses.replace(answer, text="no", references=("B",))) == 1
