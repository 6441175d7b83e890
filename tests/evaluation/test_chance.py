"""Chance levels: what a guesser scores that sees neither question nor picture."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrx.config.schema import BenchmarkConfig
from vrx.evaluation.chance import chance_level
from vrx.evaluation.scoring import score_benchmark
from vrx.metrics.answer import Answer

WORDS = BenchmarkConfig(family="short_answer", metric="exact_match")
OPTIONS = BenchmarkConfig(family="multiple_choice", metric="mmbench_letter")
FOUR = ("red", "green", "blue", "black")


def short(*references: str, types: str = "") -> list[Answer]:
    kinds = types or " " * len(references)
    pairs = zip(references, kinds, strict=True)
    return [Answer(str(n), "", (reference,), question_type=kind) for n, (reference, kind) in enumerate(pairs)]


def rotations(group: str, number: int, choices: tuple[str, ...] = FOUR) -> list[Answer]:
    return [
        Answer(f"{group}{turn}", "", ("ABCD"[turn % len(choices)],), choices, group=group) for turn in range(number)
    ]


def test_an_option_drawn_uniformly_is_right_once_in_as_many_as_there_are():
    answers = [Answer("a", "", ("B",), FOUR), Answer("b", "", ("A",), FOUR[:2])]
    assert chance_level(OPTIONS, answers) == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_a_question_in_rotations_is_right_if_every_draw_is():
    config = dataclasses.replace(OPTIONS, aggregate="circular")
    answers = [*rotations("x", 4), *rotations("y", 2, FOUR[:2]), Answer("z", "", ("A",), FOUR)]
    assert chance_level(config, answers) == pytest.approx((4**-4 + 2**-2 + 1 / 4) / 3)
    assert chance_level(OPTIONS, answers) == pytest.approx((4 / 4 + 2 / 2 + 1 / 4) / 7)


def test_the_rotations_level_is_the_mean_score_of_guessers_that_draw_letters():
    config, draw = dataclasses.replace(OPTIONS, aggregate="circular"), random.Random(0)
    answers = [answer for number in range(50) for answer in rotations(f"g{number} ", 2, FOUR[:3])]
    guessed = [
        score_benchmark(config, [dataclasses.replace(answer, text=draw.choice("ABC")) for answer in answers])["value"]
        for _ in range(100)
    ]
    assert sum(guessed) / len(guessed) == pytest.approx(chance_level(config, answers), abs=0.02)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30))
def test_short_answers_are_guessed_with_the_references_of_other_questions(references: list[str]):
    level = chance_level(WORDS, short(*references))
    pairs = list(itertools.permutations(references, 2))
    exact = sum(one == other for one, other in pairs) / len(pairs)
    assert level == (exact if exact in (0, 1) else pytest.approx(exact, abs=0.25))


def test_an_answer_is_guessed_from_questions_of_its_type_alone():
    assert chance_level(WORDS, short("yes", "yes", "red", "red", types="ppcc")) == 1
    assert chance_level(WORDS, short("yes", "red", "yes", "red", types="ppcc")) == 0
    assert chance_level(WORDS, short("yes", "yes", types="pc")) == 1, "a type of one question takes any other"


def test_a_question_is_never_guessed_with_its_own_reference():
    assert chance_level(WORDS, short(*map(str, range(9)))) == 0


def test_one_of_several_references_is_drawn():
    answers = [Answer(str(n), "", ("red", "crimson")) for n in range(4)]
    assert chance_level(WORDS, answers) == 1
    in_common = [Answer("a", "", ("red", "x")), Answer("b", "", ("red", "y"))]
    assert 0 < (chance_level(WORDS, in_common) or 0) < 1


BOX_METRICS = ["box_accuracy", "box_accuracy_unpadded", "box_accuracy_qwen", "box_iou_tri", "box_iou_loc"]


@pytest.mark.parametrize("metric", [*BOX_METRICS, "box_accuracy_loc", "box_accuracy_in_frame"])
@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 64)])
def test_boxes_are_written_in_the_frame_that_the_metric_reads(metric: str, size: tuple[int, int]):
    config = BenchmarkConfig(family="grounding", metric=metric)
    equal = [Answer(str(n), "", (), box=(10, 20, 50, 60), image_size=size) for n in range(5)]
    assert chance_level(config, equal) == pytest.approx(1, abs=0.02)
    apart = [Answer(str(n), "", (), box=(20 * n, 1, 20 * n + 9, 50), image_size=size) for n in range(3)]
    assert chance_level(config, apart) == 0


@pytest.mark.parametrize("frame", [None, (1000, 1000), (560, 420), (56, 1400), (1120, 840)])
def test_boxes_are_written_in_the_frame_of_the_answer(frame: tuple[int, int] | None):
    config = BenchmarkConfig(family="grounding", metric="box_iou_in_frame")
    answers = [Answer(str(n), "", (), box=(64, 48, 320, 240), image_size=(640, 480), box_frame=frame) for n in range(5)]
    assert chance_level(config, answers) == pytest.approx(1, abs=0.001)


def test_the_level_depends_on_neither_texts_nor_order_nor_the_last_call():
    answers = short(*random.Random(1).choices("abcd", k=40))
    level = chance_level(WORDS, answers)
    answered = [dataclasses.replace(answer, text="a") for answer in reversed(answers)]
    assert level == chance_level(WORDS, answered) == chance_level(WORDS, answers)


def test_log_likelihoods_and_single_questions_have_no_level():
    document = BenchmarkConfig(family="document", metric="token_likelihood", aggregate="perplexity")
    assert chance_level(document, short("a", "b")) is None
    assert chance_level(dataclasses.replace(WORDS, output_type="loglikelihood"), short("a", "b")) is None
    assert chance_level(WORDS, short("a")) is None
