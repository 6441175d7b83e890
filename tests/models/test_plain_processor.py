"""A plain processor of transformers makes the ids and pixels of vrx, and merged weights are those in memory."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.composing import composed
from support.official import FAMILIES, GOLDEN, loaded, model_config
from transformers import AutoProcessor

from vrx.config.schema import ModelConfig
from vrx.data.images.processing import Pixels, open_rgb
from vrx.data.instructions.encoding import expand_images, tokenize_prompt
from vrx.models import loading
from vrx.models.plain_processor import plain_processor, save_processor
from vrx.models.run_weights import RunWeights

MODELS = ["tiny", *FAMILIES]
PICTURES = sorted((GOLDEN / "images").iterdir())
QUESTIONS = [
    "What is it?",
    "  What is it?\n\n",
    "",
    "A. one\nB. two\nAnswer with the letter.",
    "Ünïcode 😀 中文",
    "<|end|> \n <|user|> </s> x",
    "Is <image> it?",
]


@cache
def config_of(name: str) -> ModelConfig:
    return composed(["model=tiny"]).model if name == "tiny" else model_config(name, FAMILIES[name]["lvlm"])


@pytest.fixture(scope="module")
def processors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The processor of each model, saved and read back."""
    found = {}
    for name in MODELS:
        config, folder = config_of(name), tmp_path_factory.mktemp(name)
        lvlm_config = RunWeights(config, None, dtype=torch.float32).lvlm_config
        lvlm_config.save_pretrained(folder)
        save_processor(plain_processor(config, loading.load_model_tokenizer(config), lvlm_config), folder)
        found[name] = AutoProcessor.from_pretrained(folder)
    return found


def message(question: str, picture: Path | None) -> dict[str, Any]:
    parts = [{"type": "image", "image": open_rgb(picture)}] if picture else []
    return {"role": "user", "content": [*parts, {"type": "text", "text": question}]}


def their_ids(processor: Any, messages: list[dict[str, Any]]) -> list[int]:
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(inputs["input_ids"][0])


def our_ids(config: ModelConfig, conversation: Any, *, has_image: bool) -> list[int]:
    tokenizer = loading.load_model_tokenizer(config)
    ids = tokenize_prompt(conversation, tokenizer, config.template, has_image=has_image)
    token, number = loading.image_token_id(config, tokenizer), config.num_image_tokens
    return expand_images(ids, None, image_token_id=token, num_image_tokens=number)[0]


@pytest.mark.parametrize("name", MODELS)
def test_prompts_have_the_same_ids(name: str, processors: dict[str, Any]):
    for question in QUESTIONS:
        ours = our_ids(config_of(name), question, has_image=True)
        assert their_ids(processors[name], [message(question, PICTURES[0])]) == ours, question
    for question in QUESTIONS[:-1]:  # without a picture the tag is text for vrx, and a picture elsewhere
        ours = our_ids(config_of(name), question, has_image=False)
        assert their_ids(processors[name], [message(question, None)]) == ours, question


@pytest.mark.parametrize("name", MODELS)
def test_conversations_have_the_same_ids(name: str, processors: dict[str, Any]):
    turns = [("human", "<image>\nWhat?"), ("gpt", "A cup."), ("human", "Are you sure?")]
    ours = our_ids(config_of(name), [{"from": who, "value": text} for who, text in turns], has_image=True)
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A cup."}]}
    theirs = [message("What?", PICTURES[0]), answer, message("Are you sure?", None)]
    assert their_ids(processors[name], theirs) == ours
    as_text = [{"role": "user", "content": turns[0][1]}, answer, {"role": "user", "content": turns[2][1]}]
    text = processors[name].apply_chat_template(as_text, add_generation_prompt=True, tokenize=False)
    assert list(processors[name](text=[text], images=[open_rgb(PICTURES[0])])["input_ids"][0]) == ours


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_pictures_have_the_same_pixels(name: str, picture: Path, processors: dict[str, Any]):
    theirs = processors[name].image_processor(open_rgb(picture), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(theirs, Pixels(config_of(name))(open_rgb(picture)))


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_read_one_by_one_are_those_of_the_loaded_model(name: str, dtype: torch.dtype):
    state = loaded(name, FAMILIES[name]["lvlm"]).state_dict()
    weights = RunWeights(config_of(name), None, dtype=dtype)
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], tensor.to(dtype)) for name, tensor in state.items())
