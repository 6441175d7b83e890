"""Every answer of the tiny world follows from its scene."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_reader import reply, solve

from vrx.tiny import choices, hops, kinds, questions, scenes, steps

repeatable = settings(deadline=None, max_examples=60, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
MAKERS = sorted(
    {*kinds.VISUAL, *kinds.TEXT, *steps.STEPS, *hops.HOPS, choices.option}, key=lambda maker: maker.__name__
)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
@repeatable
@given(seed=seeds)
def test_every_answer_follows_from_the_scene(maker: questions.Maker, seed: int):
    rng = random.Random(seed)
    scene = scenes.sample(rng)
    question = maker(scene, rng)
    if question is not None:
        if "\n" not in question.text:
            assert solve(question.text, scene) == question.answer
        assert reply(questions.prompt(question), scene) == questions.reply(question)
        assert not question.choices or question.answer in question.choices


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_no_constant_answer_is_nearly_always_right(maker: questions.Maker):
    rng = random.Random(0)
    attempts = [maker(scenes.sample(rng), rng) for _ in range(400)]
    replies = [questions.reply(question) for question in attempts if question]
    assert len(replies) > 200
    assert max(map(replies.count, set(replies))) < 0.75 * len(replies)
