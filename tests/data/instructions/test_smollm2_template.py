"""The template of SmolLM2: its text, what of it is learned, and that training and asking encode alike."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vrx.data.instructions.chat_templates import render
from vrx.data.instructions.encoding import IGNORE, tokenize, tokenize_prompt
from vrx.data.tokenizers import IMAGE_TOKEN

TEXT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\na dog<|im_end|>\n"
    "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
plain = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<"), min_size=1, max_size=12)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, with the special tokens of ChatML; as in SmolLM2, the BOS is the one that begins a turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({text: number for number, text in enumerate([*SPECIAL, *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


def turns(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


def test_the_text_is_that_of_the_models_own_template():
    assert render(turns("What?", "a dog", "Where?"), "smollm2", has_image=False) == TEXT


@settings(deadline=None, max_examples=80, derandomize=True)
@given(values=st.lists(plain, min_size=2, max_size=6).filter(lambda values: len(values) % 2 == 0))
def test_answers_and_their_ends_are_learned_and_nothing_else(values: list[str]):
    encoded = tokenize(turns(*values), tokenizer(), "smollm2", has_image=False)
    text = render(turns(*values), "smollm2", has_image=False)
    assert encoded.input_ids == tokenizer()(text)["input_ids"]
    assert encoded.mismatch is None
    learned = [token for token, label in zip(encoded.input_ids, encoded.labels, strict=True) if label != IGNORE]
    assert tokenizer().decode(learned) == "".join(f"{answer}<|im_end|>" for answer in values[1::2])
    assert all(label in (token, IGNORE) for token, label in zip(encoded.input_ids, encoded.labels, strict=True))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(question=plain.filter(lambda text: text.strip() == text), answer=plain)
def test_a_prompt_is_the_beginning_of_its_training_sample(question: str, answer: str):
    sample = tokenize(turns(f"<image>\n{question}", answer), tokenizer(), "smollm2", has_image=True)
    prompt = tokenize_prompt(question, tokenizer(), "smollm2", has_image=True)
    assert sample.input_ids[: len(prompt)] == prompt
    assert prompt.count(IMAGE_TOKEN) == 1
    assert sample.labels[: len(prompt)] == [IGNORE] * len(prompt)


def test_nothing_is_lost_after_an_image():
    """The text begins with the BOS by itself, so that the piece after an image has none to lose."""
    prompt = tokenize_prompt("What?", tokenizer(), "smollm2", has_image=True)
    after = prompt[prompt.index(IMAGE_TOKEN) + 1 :]
    assert tokenizer().decode(after) == "\nWhat?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("length", [5, 40])
def test_a_text_only_sample_is_cut(length: int):
    encoded = tokenize(turns("What?", "a dog"), tokenizer(), "smollm2", has_image=False, max_length=length)
    assert len(encoded.input_ids) == len(encoded.labels) == length
