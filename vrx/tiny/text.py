"""Text of the tiny world: conversations about scenes, the tokenizer of its words, and batches of token ids."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from vrx.data.instructions.chat_templates import SYSTEM
from vrx.data.instructions.encoding import CAPTION_END
from vrx.tiny import questions as q
from vrx.tiny.kinds import TEXT, VISUAL
from vrx.tiny.lists import caption
from vrx.tiny.scenes import Scene, describe, sample

BOS, EOS, IMAGE = "<|begin_of_text|>", "<|end_of_text|>", "<|image|>"
WORDS = r" ?[A-Za-z]+\d*(?:-[A-Za-z]+)*:?| ?\d+\.\d+| ?\d+| ?[^\sA-Za-z\d]|\s"  # one pre-token per word or decimal
Makers = tuple[q.Maker, ...]
Encode = Callable[[str], tuple[int, ...]]


def conversation(rng: random.Random, makers: Makers, *, num_questions: int) -> tuple[Scene, str, list[tuple[str, str]]]:
    """A scene, its words, and (question, reply) pairs about it."""
    scene = sample(rng)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < num_questions:
        question = rng.choice(makers)(scene, rng)
        if question is not None:
            pairs.append((q.prompt(question), q.reply(question)))
    return scene, describe(scene, rng), pairs


def build_tokenizer(folder: Path) -> None:
    """Byte-level BPE laid out like Llama-3's: every word of the world is one token, other text becomes bytes."""
    rng = random.Random(0)
    corpus = [SYSTEM] * 50
    for _ in range(3000):
        _, scene, pairs = conversation(rng, TEXT, num_questions=4)
        visual = [make(sample(rng), rng) for make in VISUAL]
        pairs += [(q.prompt(question), q.reply(question)) for question in visual if question]
        corpus += [f" USER: {scene}\n{text} ASSISTANT: {reply}" for text, reply in pairs]
        corpus += [f"USER: {text}" for text, _ in pairs]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [BOS, EOS, IMAGE]
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=20, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS)
    fast.save_pretrained(folder)


def word_encoder(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """A cached function from text to its token ids, without special tokens."""
    return functools.lru_cache(maxsize=100_000)(lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids))


def text_batch(
    rng: random.Random,
    encode: Encode,
    makers: Makers,
    *,
    batch_size: int,
    num_questions: int,
    length: int,
    captions: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels, both (batch, length); only replies, captions and their end tokens are supervised.

    captions: the share of rows that begin, before any question, with a scene and its caption, as in stage 1.
    """
    ids = torch.full((batch_size, length), encode(EOS)[0])
    labels = torch.full((batch_size, length), -100)
    for row in range(batch_size):
        tokens, targets = _row(
            rng, encode, makers, num_questions=num_questions, has_caption=captions > 0 and rng.random() < captions
        )
        end = min(length, len(tokens))
        ids[row, :end], labels[row, :end] = torch.tensor(tokens[:end]), torch.tensor(targets[:end])
    return ids, labels


def _row(
    rng: random.Random, encode: Encode, makers: Makers, *, num_questions: int, has_caption: bool
) -> tuple[list[int], list[int]]:
    """Ids and labels of a conversation about one scene."""
    scene, words, pairs = conversation(rng, makers, num_questions=num_questions)
    tokens, targets = list(encode(BOS)), [-100]

    def add(ignored: str, supervised: tuple[int, ...]) -> None:
        nonlocal tokens, targets
        ignored_ids = encode(ignored)
        tokens += ignored_ids + supervised
        targets += [-100] * len(ignored_ids) + list(supervised)

    if has_caption:
        add(words, encode(caption(scene, rng) + CAPTION_END))
    for number, (text, reply) in enumerate(pairs):
        opening = f"USER: {text}" if number or has_caption else f" USER: {words}\n{text}"
        add(opening + " ASSISTANT:", encode(" " + reply) + encode(EOS))
    return tokens, targets
