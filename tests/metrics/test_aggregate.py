"""Aggregates of many answers: means and their errors, means per type, CircularEval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden_metrics import GOLDEN, no_deadline

from vrx.metrics import aggregate, per_answer
from vrx.metrics.answer import Answer

scored = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("pq"), st.sampled_from((0.0, 0.3, 1.0))),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("case", GOLDEN["mmbench"]["circular_groups"], ids=lambda case: case["name"])
def test_circular_evaluation_equals_the_published_hits(case):
    rotations = [
        Answer(str(r["index"]), r["prediction"], (r["GT"],), (r["A"], r["B"], r["C"], r["D"]), group="7")
        for r in case["rows"]
    ]
    assert [per_answer.mmbench_letter(answer) for answer in rotations] == case["vlmevalkit_vanilla_hits"]
    assert aggregate.circular(rotations, per_answer.mmbench_letter) == [case["vlmevalkit_circular_hit"]]


@no_deadline
@given(scored, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_aggregates_do_not_depend_on_the_order_of_answers(rows, harmonic, normalised, random):
    def aggregates(rows: list[tuple[str, str, float]]) -> list[float]:
        answers = [Answer(str(i), f"{row[2]}", (row[1],), question_type=row[0]) for i, row in enumerate(rows)]
        scores = [row[2] for row in rows]
        per_type = aggregate.mean_per_type(answers, scores, harmonic=harmonic, normalised=normalised)
        return [aggregate.mean(scores), aggregate.standard_error(scores), per_type]

    assert aggregates(rows) == aggregates(random.sample(rows, len(rows)))


@no_deadline
@given(st.lists(st.tuples(st.sampled_from("uvw"), st.booleans()), min_size=1, max_size=20))
def test_circular_score_of_a_question_is_its_lowest_rotation_score(rows):
    answers = [Answer(str(i), "BA"[right], ("A",), group=group) for i, (group, right) in enumerate(rows)]
    worst = {group: min(right for other, right in rows if other == group) for group, _ in rows}
    assert aggregate.circular(answers, per_answer.bbh_match) == [float(right) for right in worst.values()]


def test_answers_without_a_group_are_questions_of_their_own():
    answers = [Answer("1", "A", ("A",)), Answer("2", "B", ("A",))]
    assert aggregate.circular(answers, per_answer.bbh_match) == [1.0, 0.0]


def test_mean_per_type_variants_by_hand():
    rows = [("color", "red", 1.0), ("color", "red", 1.0), ("color", "teal", 0.0), ("count", "2", 0.5)]
    answers = [Answer(str(i), "", (gold,), question_type=kind) for i, (kind, gold, _) in enumerate(rows)]
    scores = [score for *_, score in rows]
    assert aggregate.mean_per_type(answers, scores) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert aggregate.mean_per_type(answers, scores, normalised=True) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert aggregate.mean_per_type(answers, scores, harmonic=True) == pytest.approx(2 / (3 / 2 + 2))
    assert aggregate.mean_per_type(answers, [1.0] * 4, harmonic=True) == 1.0
    assert aggregate.mean_per_type(answers, [1.0, 1.0, 1.0, 0.0], harmonic=True) < 1e-9


def test_references_outside_the_answer_key_count_as_one_in_the_normalised_mean():
    golds = ("red", "teal", "mauve")
    answers = [Answer(gold, gold, (gold,), choices=("red",), question_type="color") for gold in golds]
    scores = [per_answer.tdiuc_match(answer) for answer in answers]
    assert aggregate.mean_per_type(answers, scores, normalised=True) == 0.5


typed = st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.sampled_from("abcde"))


@no_deadline
@given(st.lists(typed, min_size=1, max_size=30), st.sets(st.sampled_from("abcd"), min_size=1))
def test_means_per_type_equal_those_of_tdiucs_script(rows, key):
    """The script computes percents, adds 1e-10 to each type's, and replaces references outside the key by -1."""
    types: dict[str, list[tuple[str | int, str]]] = {}
    for kind, gold, text in rows:
        types.setdefault(kind, []).append((gold if gold in key else -1, text))
    plain = [100 * sum(gold == text for gold, text in pairs) / len(pairs) + 1e-10 for pairs in types.values()]
    normalised = []
    for pairs in types.values():
        shares = []
        for unique in {gold for gold, _ in pairs}:
            texts = [text for gold, text in pairs if gold == unique]
            shares.append(sum(text == unique for text in texts) / len(texts))
        normalised.append(100 * sum(shares) / len(shares) + 1e-10)
    answers = [
        Answer(str(number), text, (gold,), choices=(gold if gold in key else "-",), question_type=kind)
        for number, (kind, gold, text) in enumerate(rows)
    ]
    scores = [per_answer.tdiuc_match(answer) for answer in answers]
    for is_normalised, expected in ((False, plain), (True, normalised)):
        computed = aggregate.mean_per_type(answers, scores, normalised=is_normalised)
        assert 100 * computed == pytest.approx(sum(expected) / len(expected), abs=1e-6)
        computed = aggregate.mean_per_type(answers, scores, normalised=is_normalised, harmonic=True)
        assert 100 * computed == pytest.approx(len(expected) / sum(1 / value for value in expected), abs=1e-6)


def test_standard_error_by_hand():
    assert aggregate.standard_error([1.0]) == 0
    assert aggregate.standard_error([0.0, 1.0, 1.0, 0.0]) == pytest.approx(math.sqrt(1 / 3 / 4))


def test_mean_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no answers"):
        aggregate.mean([])
