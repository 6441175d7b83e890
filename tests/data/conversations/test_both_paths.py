"""LLaVA through the chat path has the ids, labels and pixels of the path at parity with the official code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.chat_formats import noise, turn
from support.official import GOLDEN

from vrx.config.schema import ModelConfig
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.data.instructions.chat_templates import SYSTEM
from vrx.data.instructions.dataset import TrainingDataset
from vrx.data.tokenizers import load_tokenizer

# `bunny_llama3` as a chat template: the same text, turn for turn
TEMPLATE = (
    SYSTEM + "{{ ' ' }}{% for m in messages %}{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image|>{{ '\n' }}{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{{ ' ' if m['role'] == 'user' else '<|end_of_text|>' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TALKS: dict[str, tuple[list[str], int]] = {  # question, answer, question, …; and the number of pictures
    "one turn": (["<image>\nWhat is it ?", "A red cat ."], 1),
    "three turns": (["<image>\nWhat ?", "It is red .", "Why ?", "Because .", "And ?", "A cat\nis a cat"], 1),
    "text": (["Who ?", "A cat .", "Why ?", "No ."], 0),
}
TOWER = Path(__file__).parents[3] / "vrx" / "tiny" / "weights" / "vision_tower"
NAME = "bunny_llama3"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """A tokenizer and a tower, and beside them the files of a checkpoint that names them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = load_tokenizer(GOLDEN / "tokenizers" / "llama3_like", NAME)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|image|>"]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_bytes((TOWER / "preprocessor_config.json").read_bytes())
    patches = json.loads((TOWER / "config.json").read_text())
    settings = {
        "patch_size": patches["patch_size"],
        "vision_feature_select_strategy": "full",
        "image_token": "<|image|>",
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
    return ModelConfig(
        name="tiny",
        num_layers=32,
        backbone=str(folder),
        vision_tower=str(TOWER),
        tokenizer=str(folder),
        lvlm=str(folder),
        template=NAME,
        image_token="<|image|>",
        num_image_tokens=36,
        image_aspect_ratio="square",
    )


@pytest.fixture(scope="module")
def encoder(config: ModelConfig) -> ChatEncoder:
    chat = ModelConfig(name="llava", architecture="llava_hf", num_layers=32, lvlm=config.lvlm, template="chat")
    return ChatEncoder(load_processor(chat), forward_keys=forward_keys(chat))


@pytest.mark.parametrize("name", TALKS)
def test_ids_labels_and_pixels_are_those_of_the_official_path(
    config: ModelConfig, encoder: ChatEncoder, tmp_path: Path, name: str
) -> None:
    texts, number = TALKS[name]
    noise(80, 60).save(tmp_path / "a.png")
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
    row: dict[str, Any] = {
        "id": "",
        "image": "a.png" if number else None,
        "conversations": json.dumps(turns),
        "length": 1,
    }
    tokenizer = load_tokenizer(str(config.tokenizer), NAME)
    image_token_id = tokenizer.convert_tokens_to_ids("<|image|>")
    official = TrainingDataset(
        [row],  # type: ignore[list-item]
        config,
        tokenizer,
        image_token_id=int(image_token_id),  # type: ignore[arg-type]
        image_folder=tmp_path,
        on_bad_image="error",
    )[0]
    messages = []
    for place, text in enumerate(texts):
        parts = ("<image>", text.removeprefix("<image>\n")) if "<image>" in text else (text,)
        messages.append(turn(("user", "assistant")[place % 2], *parts))
    sample = encoder.encode(messages, [noise(80, 60)] * number)
    assert sample.input_ids == official.input_ids
    assert sample.labels == official.labels
    if number:
        assert official.pixels is not None
        assert sample.tensors["pixel_values"].equal(official.pixels[None])
