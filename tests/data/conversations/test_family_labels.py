"""What is learned of a conversation, in the format of each family: the answer and the token that ends it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.families import ANSWERS, QUESTIONS, picture, slow_families
from support.family_checkpoints import FAMILIES
from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor

from vrx.data.instructions.encoding import IGNORE


@pytest.mark.parametrize("name", slow_families(fast=("paligemma", "mistral3")))
def test_labels_are_the_answer_and_its_end(tiny_family: Any, name: str):
    family = tiny_family(name)
    sample = family.sample(0)
    learned = [label for label in sample.labels if label != IGNORE]
    text = family.encoder.tokenizer.decode(learned).removeprefix(" ")  # of "Assistant: ", in the answer's first token
    assert text == ANSWERS[0] + FAMILIES[name]().end
    assert learned == [token for token, label in zip(sample.input_ids, sample.labels, strict=True) if label != IGNORE]


def test_paligemma_reads_what_its_own_processor_writes(tiny_family: Any):
    """Its checkpoints bring no chat template: prefix and suffix are those of transformers."""
    family = tiny_family("paligemma")
    ours = family.encoder.processor
    theirs: Any = PaliGemmaProcessor(ours.image_processor, ours.tokenizer)
    question, answer = "<image>" + QUESTIONS[0], ANSWERS[0]
    output = theirs(text=[question], suffix=[answer], images=[[picture(0)]])
    sample = family.sample(0)
    assert sample.input_ids == list(output["input_ids"][0])
    assert sample.labels == list(output["labels"][0])
    assert np.array_equal(sample.tensors["pixel_values"], output["pixel_values"])
    asked = theirs(text=[question], images=[[picture(0)]])
    assert family.prompt(0).input_ids == list(asked["input_ids"][0])
