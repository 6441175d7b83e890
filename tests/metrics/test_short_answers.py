"""Metrics of short answers give what the official scorers gave (tests/golden)."""

from __future__ import annotations

import dataclasses

import pytest
from support.golden_metrics import GOLDEN, golden_answer, golden_cases

from vrx.metrics import answer_extraction, normalization, per_answer
from vrx.metrics.answer import Answer

FILES = ("ocrvqa", "docvqa", "relaxed_accuracy", "gqa", "textvqa", "tdiuc")


@pytest.mark.parametrize(("metric", "answer", "published"), list(golden_cases(*FILES)))
def test_metric_equals_the_published_score(metric, answer, published):
    assert metric(answer) == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("item", GOLDEN["tdiuc"]["paper_repo_rule"]["items"])
def test_authors_tdiuc_rule_equals_their_scores(item):
    assert per_answer.tdiuc_match_authors(golden_answer(item)) == item["score"]


@pytest.mark.parametrize("item", GOLDEN["textvqa"]["answer_processor"])
def test_vqa_normalisation_equals_the_published_one(item):
    assert normalization.vqa_normalised(item["in"]) == item["out"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two dogs", 2),
        ("Twenty-One", 21),
        ("one million two thousand", 1003002),  # a fault of the library: the two thousand count twice
        ("two hundred six", 206),
        ("point", 0),
        ("two point zero five", 2.05),
        ("two point ten", 2),
        ("thousand two", None),
        ("two thousand one million", None),
        ("two thousand thousand", None),
        ("²", None),
        ("someone", None),
        ("9" * 5000, None),
    ],
)
def test_number_words_read_as_word2number_reads_them(text, number):
    assert answer_extraction.number_from_words(text) == number


def test_a_reference_outside_the_answer_key_is_never_matched():
    answer = Answer("a", "teal", ("teal",))
    assert per_answer.tdiuc_match(answer) == 1
    assert per_answer.tdiuc_match(dataclasses.replace(answer, choices=("red", "blue"))) == 0


def test_vqa_accuracy_grows_with_the_number_of_agreeing_annotators():
    scores = [per_answer.vqa_accuracy(Answer("a", "x", ("x",) * n + ("y",) * (10 - n))) for n in range(11)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9, *[1] * 7])
