"""Properties that hold for every metric and any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from support.composing import composed
from support.golden_metrics import PER_ANSWER, no_deadline, texts

from vrx.config.asked_as import asked_as
from vrx.config.resolve import known_names
from vrx.metrics import per_answer
from vrx.metrics.answer import Answer


@pytest.mark.parametrize(
    "metric", [per_answer.box_iou, per_answer.box_accuracy_unpadded, per_answer.mmlu_log_likelihood]
)
def test_metric_without_what_it_compares_names_the_answer(metric):
    with pytest.raises(ValueError, match="answer 'q17'"):
        metric(Answer("q17", "[0, 0, 1, 1]", ("A",)))


def test_every_metric_is_named_by_a_benchmark():
    plain = composed(["benchmark=[all,perplexity]"]).benchmark
    configs = [asked_as(*item, name) for item in plain.items() for name in ("llava", "qwen3_vl", "paligemma")]
    used = {name for config in configs for name in (config.metric, *config.extra_metrics.values())}
    assert used == set(known_names("metric"))


def textbook_distance(a: str, b: str) -> int:
    """Levenshtein distance by the definition: a row of the table at a time."""
    above = list(range(len(a) + 1))
    for row, right in enumerate(b, start=1):
        current = [row]
        for column, left in enumerate(a):
            current.append(min(above[column] + (left != right), above[column + 1] + 1, current[column] + 1))
        above = current
    return above[-1]


similar_texts = st.text(st.sampled_from("ab É赤🙂\ud800"), max_size=70)  # repeats, other planes, a lone surrogate


@no_deadline
@given(a=similar_texts | st.text(max_size=80), b=similar_texts | st.text(max_size=80))
def test_edit_distance_is_levenshteins_in_code_points(a, b):
    assert Levenshtein.distance(a, b) == textbook_distance(a, b)


@pytest.mark.parametrize("metric", PER_ANSWER)
@no_deadline
@given(text=texts, references=st.lists(texts, max_size=10), choices=st.lists(st.none() | texts, max_size=6))
def test_score_is_a_fraction_for_any_text(metric, text, references, choices):
    frame = {"image_size": (64, 48), "box": (1, 2, 30, 40)}
    score = metric(Answer("a", text, tuple(references), tuple(choices), choice_log_probs=(0.0,), **frame))
    assert isinstance(score, float)
    assert 0 <= score <= 1


@pytest.mark.parametrize(
    "piece",
    ["[", "[,", "[1,1,1,", "(", "(1,1),", ",", "9", " ", "a ", "answer ", "answer is *", ": ", ".", "one "],
)
def test_a_long_text_of_one_repeated_piece_is_scored(piece):
    """Patterns that backtrack, as the official ones do, would take hours."""
    frame = {"image_size": (640, 480), "box": (1, 2, 3, 4)}
    answer = Answer("a", piece * 50_000, ("B", "two words"), ("x", "y"), choice_log_probs=(0.0, 1.0), **frame)
    assert all(0 <= metric(answer) <= 1 for metric in PER_ANSWER)


@no_deadline
@given(text=texts)
def test_the_reference_itself_is_right(text):
    answer = Answer("a", text, (text,) * 10)
    for name in ("exact_match", "containment", "anls", "vqa_accuracy", "bbh_match", "tdiuc_match"):
        assert getattr(per_answer, name)(answer) == 1
    assert per_answer.tdiuc_match_authors(Answer("a", text, (text.strip(),))) == 1


@no_deadline
@given(text=texts, references=st.lists(texts, min_size=1, max_size=4))
def test_exact_answers_are_contained_answers(text, references):
    answer = Answer("a", text, tuple(references))
    assert per_answer.exact_match(answer) <= per_answer.containment(answer)


@no_deadline
@given(texts, st.lists(texts, min_size=10, max_size=10), st.randoms(use_true_random=False))
def test_order_of_references_does_not_matter(text, references, random):
    shuffled = random.sample(references, len(references))
    for metric in (per_answer.vqa_accuracy, per_answer.anls, per_answer.containment, per_answer.relaxed_accuracy):
        assert metric(Answer("a", text, tuple(references))) == metric(Answer("a", text, tuple(shuffled)))
