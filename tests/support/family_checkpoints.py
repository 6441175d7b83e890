"""Tiny checkpoints of current LVLM families: random weights, a tokenizer trained here, a chat template, a processor.

Nothing is downloaded. Each family is one function that says what its checkpoints differ in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

DEPTH = 8  # decoder layers of every family
SENTENCES = [
    "user what is in the picture? assistant a red square on a blue field with yellow dots",
    "describe the image in detail please . the answer is a cat",
    "system you are a helpful assistant human gpt",
] * 20
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,  # every layer has something to say
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
}


@dataclass
class Family:
    """What a family's checkpoints differ in.

    tokens: special tokens, the first pads; config: of the model, given the ids of the tokens by name; processor: the
    content of processor_config.json; named: tokens that the processor finds by an attribute of the tokenizer.
    """

    model_type: str
    tokens: list[str]
    end: str
    template: str | None
    config: dict[str, Any]
    pictures: Any  # an image processor
    processor: dict[str, Any]
    begin: str | None = None
    named: dict[str, str] = field(default_factory=dict)


def build(name: str, folder: Path) -> Path:
    """Write the checkpoint of a family into a folder, as `save_pretrained` does."""
    family = FAMILIES[name]()
    _tokenizer(name).save_pretrained(folder)
    family.pictures.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(family.processor))
    config = AutoConfig.for_model(family.model_type, **family.config)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():  # norms and biases too
        if parameter.ndim == 1:
            parameter.data.add_(torch.rand_like(parameter) * 0.2)
    model.generation_config.eos_token_id = _id(family, family.end)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    return folder


@cache
def _tokenizer(name: str) -> PreTrainedTokenizerFast:
    family = FAMILIES[name]()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=family.tokens, initial_alphabet=alphabet)
    bpe.train_from_iterator(SENTENCES, trainer)
    named: dict[str, Any] = {"extra_special_tokens": family.named} if family.named else {}
    begin = {"bos_token": family.begin} if family.begin else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=family.tokens[0], eos_token=family.end, **begin, **named
    )
    tokenizer.chat_template = family.template
    return tokenizer


def _id(family: Family, token: str) -> int:
    return family.tokens.index(token)


def _ids(tokens: list[str], **keys: str) -> dict[str, int]:
    """Ids of special tokens, which come first in the vocabulary, under the keys of a configuration."""
    return {key: tokens.index(token) for key, token in keys.items()}


def _parts(picture: str) -> str:
    """The part of a template that writes a message's content."""
    return (
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}" + picture + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    )


def _chatml(picture: str) -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + _parts(picture) + "<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _plain(picture: str) -> str:
    return (
        "{% for m in messages %}{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT: ' }}"
        + _parts(picture)
        + "{{ '</s>' if m['role'] == 'assistant' else ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )


def _picture_processor(name: str, **settings: Any) -> Any:
    return getattr(transformers, name)(**settings)


def _qwen(model_type: str, processor: str, text: dict[str, Any], vision: dict[str, Any], patch: int) -> Family:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    tokens += ["<|image_pad|>", "<|video_pad|>"]
    common = {"patch_size": patch, "temporal_patch_size": 2, "spatial_merge_size": 2, "num_heads": 2, "depth": 4}
    common |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    return Family(
        model_type,
        tokens,
        end="<|im_end|>",
        template=_chatml("<|vision_start|><|image_pad|><|vision_end|>"),
        config={
            "text_config": {**TEXT, **text, "bos_token_id": 0},
            "vision_config": {**common, **vision},
            **_ids(
                tokens,
                image_token_id="<|image_pad|>",
                video_token_id="<|video_pad|>",
                vision_start_token_id="<|vision_start|>",
                vision_end_token_id="<|vision_end|>",
            ),
        },
        pictures=_picture_processor(
            "Qwen2VLImageProcessorPil",
            patch_size=patch,
            merge_size=2,
            temporal_patch_size=2,
            min_pixels=56 * 56,
            max_pixels=140 * 140,
        ),
        processor={"processor_class": processor},
    )


def qwen2_5_vl() -> Family:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}
    vision = {"window_size": 112, "fullatt_block_indexes": [1, 3]}
    return _qwen("qwen2_5_vl", "Qwen2_5_VLProcessor", {"rope_parameters": rope}, vision, patch=14)


def qwen3_vl() -> Family:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True, "rope_theta": 5e6}
    vision = {"num_position_embeddings": 64, "deepstack_visual_indexes": [1, 2, 3]}
    return _qwen("qwen3_vl", "Qwen3VLProcessor", {"rope_parameters": rope}, vision, patch=16)


def _llava(model_type: str, text: str, pictures: Any, processor: dict[str, Any], **config: Any) -> Family:
    tokens = ["<pad>", "<s>", "</s>", "<image>", "<video>"]
    vision = {"model_type": "clip_vision_model", **VISION, "image_size": 56, "patch_size": 14}
    return Family(
        model_type,
        tokens,
        end="</s>",
        begin="<s>",
        template=_plain("<image>\n"),
        config={
            "text_config": {"model_type": text, **TEXT},
            "vision_config": vision,
            "image_token_id": tokens.index("<image>"),
            **config,
        },
        pictures=pictures,
        processor=processor,
    )


def llava_hf() -> Family:
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return _llava(
        "llava",
        "llama",
        _picture_processor("CLIPImageProcessorPil", **size),
        {"processor_class": "LlavaProcessor", **settings},
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=16,
    )


FAMILIES = {function.__name__: function for function in (llava_hf, qwen2_5_vl, qwen3_vl)}
