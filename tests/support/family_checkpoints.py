"""Tiny checkpoints of current LVLM families: random weights, a tokenizer trained here, a chat template, a processor.

Nothing is downloaded; `family_table` says what families differ in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from support import family_table, family_table_more
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from vrx.config.resolve import known_names

SENTENCES = [
    "user what is in the picture? assistant a red square on a blue field with yellow dots",
    "describe the image in detail please . the answer is a cat",
    "system you are a helpful assistant human gpt",
] * 20

FAMILIES: dict[str, Callable[[], family_table.Family]] = {
    name: function
    for module in (family_table, family_table_more)
    for name, function in vars(module).items()
    if name in known_names("architecture") and function.__module__ == module.__name__
}


def build(name: str, folder: Path) -> Path:
    """Write the checkpoint of a family into a folder, as `save_pretrained` does."""
    family = FAMILIES[name]()
    _tokenizer(name).save_pretrained(folder)
    family.pictures.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(family.processor))
    config = AutoConfig.for_model(family.model_type, **family.config)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():  # norms, biases, and what starts at 0
        if parameter.ndim == 1 or not parameter.any():
            parameter.data.add_(torch.rand_like(parameter) * 0.2)
    model.generation_config.eos_token_id = family.tokens.index(family.end)
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
