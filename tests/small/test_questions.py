"""Every answer follows from its scene, by a reading of scene and question that shares no code with the makers."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small_reader import solve
from support.small_world import make_pictures

from vrx.small import knowledge, questions, scenes
from vrx.small.pictures import known_names
from vrx.small.stock import Stocks, open_stocks

CASES = [
    *((maker, scenes.sample_things) for maker in dict.fromkeys(questions.THINGS)),
    *((maker, scenes.sample_labelled) for maker in dict.fromkeys(questions.LABELLED)),
    *((maker, scenes.sample_cover) for maker in dict.fromkeys(questions.COVER)),
    *((maker, scenes.sample_page) for maker in dict.fromkeys(questions.PAGE)),
]


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Stocks:
    return open_stocks(make_pictures(tmp_path_factory.mktemp("stock") / "pictures"))


@pytest.mark.parametrize(("maker", "sample"), CASES, ids=lambda case: case.__name__)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_answer_follows_from_the_scene(stocks: Stocks, maker, sample, seed: int):
    rng = random.Random(seed)
    scene = sample(rng, stocks.new)
    question = maker(scene, rng, stocks.new)
    if question is not None:
        assert solve(question, scene) == question.answer
        assert not question.choices or question.choices.count(question.answer) == 1
        assert len(set(question.choices)) == len(question.choices)


@pytest.mark.parametrize("maker", [*questions.TYPED, questions.relation], ids=lambda maker: maker.__name__)
def test_no_constant_answer_is_nearly_always_right(stocks: Stocks, maker):
    rng = random.Random(0)
    asked = [maker(scenes.sample_things(rng, stocks.test), rng, stocks.test) for _ in range(300)]
    answers = [question.answer for question in asked if question]
    assert len(answers) > 200
    assert max(map(answers.count, set(answers))) < 0.62 * len(answers)


def test_neither_picture_nor_knowledge_alone_answers_about_traits(stocks: Stocks):
    rng = random.Random(0)
    kinds = set()
    for _ in range(200):
        scene = scenes.sample_things(rng, stocks.test)
        question = questions.science(scene, rng, stocks.test)
        if question is None or question.kind != "trait":
            continue
        has, lacks = known_names().traits[re.fullmatch(r"Which thing in the picture (.*)\?", question.text)[1]]  # type: ignore[index]
        shown = {thing.name for thing in scene.things}
        assert sum(option in has for option in question.choices) == 2
        assert sum(option in lacks for option in question.choices) == 2
        assert sum(option in shown for option in question.choices) == 2
        kinds.add(question.text)
    assert len(kinds) >= 5


def test_boxes_are_written_as_fractions():
    assert questions.box_text((0, 35, 70, 140)) == "[0.00, 0.25, 0.50, 1.00]"


@pytest.mark.parametrize(
    ("name", "text"), [("owl", "an owl"), ("dog", "a dog"), ("socks", "socks"), ("milk", "milk"), ("bus", "a bus")]
)
def test_names_take_their_article(name: str, text: str):
    assert knowledge.article(name) == text


def test_paragraphs_state_what_is_known(stocks: Stocks):
    rng = random.Random(0)
    for _ in range(50):
        for subject, sentences in re.findall(
            r"An? ([^.]+?) is [^.]+\.((?: It [^.]+\.)*)", knowledge.paragraph(rng, stocks.new.names)
        ):
            assert subject in known_names().category
            for trait in re.findall(r"It ([^.]+)\.", sentences):
                assert subject in known_names().traits[trait][0]
