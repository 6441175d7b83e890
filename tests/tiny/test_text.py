"""The backbone's text: what is supervised, and that every word of the world is one token."""

from __future__ import annotations

import random
import re

import pytest
from support.tiny_reader import parse, reply
from transformers import PreTrainedTokenizerFast

from vrx.tiny import hops, kinds, steps, text
from vrx.tiny.build import WEIGHTS
from vrx.tiny.scenes import COLOURS, GRID, THINGS, cell_name


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(WEIGHTS)


def rows(tokenizer: PreTrainedTokenizerFast, *, captions: float) -> list[tuple[str, str]]:
    """Text and supervised text of rows without padding."""
    ids, labels = text.text_batch(
        random.Random(0),
        text.word_encoder(tokenizer),
        (*kinds.TEXT, *steps.STEPS, *hops.HOPS),
        batch_size=20,
        num_questions=3,
        length=400,
        captions=captions,
    )
    padding = re.compile(r"(<\|end_of_text\|>)+$")
    return [
        (padding.sub("<|end_of_text|>", tokenizer.decode(row)), tokenizer.decode(label[label != -100]))
        for row, label in zip(ids, labels, strict=True)
    ]


def test_only_replies_and_their_ends_are_supervised(tokenizer: PreTrainedTokenizerFast):
    for row, supervised in rows(tokenizer, captions=0.0):
        turns = [turn.split(" ASSISTANT: ") for turn in row.split("<|end_of_text|>")[:-1]]
        assert len(turns) == 3
        assert supervised == "".join(f" {answer}<|end_of_text|>" for _, answer in turns)
        words, _, turns[0][0] = turns[0][0].removeprefix("<|begin_of_text|> USER: ").partition("\n")
        scene = parse(words)
        for question, answer in turns:
            assert reply(question.removeprefix("USER: "), scene) == answer


def test_a_caption_follows_its_scene_as_it_follows_a_picture(tokenizer: PreTrainedTokenizerFast):
    for row, supervised in rows(tokenizer, captions=1.0):
        caption = supervised.partition("\n")[0]
        words = row.removeprefix("<|begin_of_text|>").partition(f"{caption}\nUSER: ")[0]
        assert parse(words) == parse(caption)
        cells = [part.split()[0] for part in caption.split(",")]
        assert cells == sorted(cells, key=lambda cell: (cell[1], cell[0]))


def test_every_word_of_a_scene_is_one_token(tokenizer: PreTrainedTokenizerFast):
    words = [*COLOURS, *THINGS, *map(cell_name, range(GRID * GRID))]
    assert all(len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1 for word in words)
