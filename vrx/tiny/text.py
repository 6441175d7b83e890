"""Text of the tiny world: conversations about scenes, the tokenizer of its words, and batches of token ids."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from vrx.data.chat_templates import SYSTEM
from vrx.tiny import questions as q
from vrx.tiny.scenes import COLOURS, GRID, THINGS, Thing, cell_name, describe, sample

BOS, EOS, IMAGE = "<|begin_of_text|>", "<|end_of_text|>", "<|image|>"
WORDS = r" ?[A-Za-z]+\d*(?:-[A-Za-z]+)*:?| ?\d+\.\d+| ?\d+| ?[^\sA-Za-z\d]|\s"  # one pre-token per word or decimal
Makers = tuple[q.Maker, ...]
Encode = Callable[[str], tuple[int, ...]]


def conversation(rng: random.Random, makers: Makers, *, num_questions: int) -> tuple[str, list[tuple[str, str]]]:
    """A scene in words and (question, reply) pairs about it."""
    scene = sample(rng)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < num_questions:
        question = rng.choice(makers)(scene, rng)
        if question is not None:
            pairs.append((q.prompt(question), q.reply(question)))
    return describe(scene), pairs


def build_tokenizer(folder: Path) -> None:
    """Byte-level BPE laid out like Llama-3's: every word of the world is one token, other text becomes bytes."""
    rng = random.Random(0)
    corpus = [SYSTEM] * 50
    corpus += [
        f" {cell_name(cell)}-{Thing(*names)}" for cell in range(GRID**2) for names in product(COLOURS, THINGS)
    ] * 50
    for _ in range(3000):
        scene, pairs = conversation(rng, q.TEXT, num_questions=4)
        visual = [make(sample(rng), rng) for make in q.VISUAL]
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


def text_batch(
    rng: random.Random, encode: Encode, makers: Makers, *, batch_size: int, num_questions: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels, both (batch, length); only replies and their end token are supervised."""
    ids = torch.full((batch_size, length), encode(EOS)[0])
    labels = torch.full((batch_size, length), -100)
    for row in range(batch_size):
        scene, pairs = conversation(rng, makers, num_questions=num_questions)
        tokens, targets = list(encode(BOS)), []
        for number, (text, reply) in enumerate(pairs):
            opening = f" USER: {scene}\n{text}" if number == 0 else f"USER: {text}"
            question_ids, reply_ids = encode(opening + " ASSISTANT:"), encode(" " + reply) + encode(EOS)
            targets += [-100] * (len(tokens) + len(question_ids) - len(targets)) + list(reply_ids)
            tokens += question_ids + reply_ids
        end = min(length, len(tokens))
        ids[row, :end], labels[row, :end] = torch.tensor(tokens[:end]), torch.tensor(targets[:end])
    return ids, labels
