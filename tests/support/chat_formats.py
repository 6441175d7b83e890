"""Chat formats of current models as data, with tokenizers made here: folders as checkpoints have them, without weights.

A format is written from what is known of a family's turns: its special tokens, how a role begins and what ends a turn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vrx.config.schema import ModelConfig

CORPUS = [
    "what is in the picture ? a red square on a blue field .",
    "describe the image in detail please , it is a cat",
]
PARTS = (
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}TEXT{% endif %}{% endfor %}{% endif %}"
)
QWEN_TOKENS = "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>"


def template(head: str, image: str, end: str, *, opening: str = "", begin: str = "", text: str = "c['text']") -> str:
    """A template of turns: `begin`, then for each message head, parts and end, then the opening of an answer."""
    parts = PARTS.replace("IMAGE", image).replace("TEXT", "{{ " + text + " }}")
    ask = "{% if add_generation_prompt %}" + opening + "{% endif %}"
    return begin + "{% for m in messages %}" + head + parts + end + "{% endfor %}" + ask


@dataclass(frozen=True)
class ChatFormat:
    """A model type with its template, special tokens (padding first) and the settings of its processors.

    end: what ends an answer; last_end: the last one. picture_id: the token of a picture's features.
    """

    model_type: str
    tokens: str
    template: str | None
    eos: str
    end: str
    picture: str
    pictures: tuple[str, dict[str, Any]]
    bos: str | None = None
    last_end: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    named_tokens: dict[str, str] = field(default_factory=dict)
    has_system: bool = True


def _qwen(model_type: str, template: str, patch_size: int) -> ChatFormat:
    sizes = {"patch_size": patch_size, "merge_size": 2, "temporal_patch_size": 2}
    pictures = ("Qwen2VLImageProcessorPil", {**sizes, "min_pixels": 56 * 56, "max_pixels": 300 * 300})
    return ChatFormat(model_type, QWEN_TOKENS, template, "<|im_end|>", "<|im_end|>", "<|image_pad|>", pictures)


CHATML = "<|im_start|>{{ m['role'] }}\n"
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
NO_THOUGHTS = "<think>\n\n</think>\n\n"
TRIMMED = "c['text'] | trim"
SQUARE = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
PINPOINTS = {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]}
FORMATS = {
    "chatml": _qwen("qwen2_5_vl", template(CHATML, SEEN, "<|im_end|>\n", opening="<|im_start|>assistant\n"), 14),
    "think": _qwen(
        "qwen3_5",
        template(
            CHATML + "{% if m['role'] == 'assistant' and loop.last %}{{ '" + NO_THOUGHTS + "' }}{% endif %}",
            SEEN,
            "<|im_end|>\n",
            opening="<|im_start|>assistant\n{% if not enable_thinking %}{{ '" + NO_THOUGHTS + "' }}{% endif %}",
            text=TRIMMED,
        ),
        16,
    ),
    "llama3": ChatFormat(
        "mllama",
        "<|pad|> <|begin_of_text|> <|eot_id|> <|start_header_id|> <|end_header_id|> <|image|> <|python_tag|>",
        template(
            "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n",
            "<|image|>",
            "<|eot_id|>",
            opening="<|start_header_id|>assistant<|end_header_id|>\n\n",
            begin="{{ bos_token }}",
            text=TRIMMED,
        ),
        "<|eot_id|>",
        "<|eot_id|>",
        "<|image|>",
        ("MllamaImageProcessorPil", {"size": {"height": 56, "width": 56}, "max_image_tiles": 4}),
        bos="<|begin_of_text|>",
    ),
    "gemma": ChatFormat(
        "gemma3",
        "<pad> <bos> <eos> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <image_soft_token>",
        template(
            "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
            "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n",
            "<start_of_image>",
            "<end_of_turn>\n",
            opening="<start_of_turn>model\n",
            begin="{{ bos_token }}",
            text=TRIMMED,
        ),
        "<eos>",
        "<end_of_turn>",
        "<image_soft_token>",
        ("Gemma3ImageProcessorPil", {"size": {"height": 56, "width": 56}, "image_seq_length": 4}),
        bos="<bos>",
        settings={"image_seq_length": 4},
        named_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        has_system=False,
    ),
    "glm": ChatFormat(
        "glm4v",
        "<|endoftext|> [gMASK] <sop> <|user|> <|assistant|> <|system|> "
        "<|begin_of_image|> <|end_of_image|> <|image|> <|begin_of_video|> <|end_of_video|> <|video|>",
        template(
            "<|{{ m['role'] }}|>\n",
            "<|begin_of_image|><|image|><|end_of_image|>",
            "",
            opening="<|assistant|>\n",
            begin="[gMASK]<sop>",
        ),
        "<|endoftext|>",
        "<|user|>",
        "<|image|>",
        (
            "Glm4vImageProcessorPil",
            {
                "patch_size": 14,
                "merge_size": 2,
                "temporal_patch_size": 2,
                "size": {"shortest_edge": 56 * 56, "longest_edge": 300 * 300},
            },
        ),
        last_end="<|endoftext|>",
    ),
    "mistral": ChatFormat(
        "llava_next",
        "<unk> <s> </s> <image>",
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' }}"
        + PARTS.replace("IMAGE", "<image>").replace("TEXT", "{{ c['text'] }}")
        + "{{ eos_token }}{% elif m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% else %}[INST] "
        + PARTS.replace("IMAGE", "{{ '<image>\n' }}").replace("TEXT", "{{ c['text'] }}")
        + " [/INST]{% endif %}{% endfor %}",
        "</s>",
        "</s>",
        "<image>",
        ("LlavaNextImageProcessorPil", {**SQUARE, **PINPOINTS}),
        bos="<s>",
        settings={
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    ),
    "idefics": ChatFormat(
        "idefics3",
        "<pad> <|im_start|> <end_of_utterance> <fake_token_around_image> <image> <global-img>"
        + "".join(f" <row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
        template(
            "{{ m['role'] | capitalize }}: ",
            "<image>",
            "<end_of_utterance>\n",
            opening="Assistant:",
            begin="{{ bos_token }}",
        ),
        "<end_of_utterance>",
        "<end_of_utterance>",
        "<image>",
        (
            "Idefics3ImageProcessorPil",
            {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}},
        ),
        bos="<|im_start|>",
        settings={"image_seq_len": 4},
    ),
}


def tiny_tokenizer(tokens: str, *, eos: str, bos: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on two sentences; the first token is the padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=tokens.split(), **options)
    tokenizer.train_from_iterator(CORPUS, trainer)
    names: dict[str, Any] = {"extra_special_tokens": named} if named else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=tokens.split()[0], eos_token=eos, bos_token=bos, **names
    )


def write_format(folder: Path, chat: ChatFormat, **changes: Any) -> ModelConfig:
    """Write the small files of a checkpoint of a format; gives the configuration of a model that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": chat.model_type}), encoding="utf-8")
    tokenizer = tiny_tokenizer(chat.tokens, eos=chat.eos, bos=chat.bos, **chat.named_tokens)
    tokenizer.chat_template = changes.get("template", chat.template)
    tokenizer.save_pretrained(folder)
    name, settings = chat.pictures
    getattr(transformers, name)(**settings).save_pretrained(folder)
    if chat.settings:
        (folder / "processor_config.json").write_text(json.dumps(chat.settings), encoding="utf-8")
    return ModelConfig(
        name=chat.model_type, architecture=chat.model_type, num_layers=4, lvlm=str(folder), template="chat"
    )


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8))


def turn(role: str, *parts: str) -> dict[str, Any]:
    """A message; `<image>` among the parts stands for a picture."""
    content = [{"type": "image"} if part == "<image>" else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}
