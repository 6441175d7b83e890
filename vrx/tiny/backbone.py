"""Tokenizer and backbone of the embedded LVLM: a Llama pre-trained on the world's text alone."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import nn
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vrx.tiny import questions
from vrx.tiny.scenes import describe, sample

BOS, EOS, IMAGE = "<|begin_of_text|>", "<|end_of_text|>", "<|image|>"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
WORDS = r" ?[A-Za-z]+\d*:?| ?\d+\.\d+| ?\d+| ?[^\sA-Za-z\d]|\s"  # one pre-token a word, decimals whole


def _in(style: str, maker: Callable[..., questions.Question]) -> questions.Maker:
    return functools.partial(maker, style=style)


Makers = dict[str, tuple[int, tuple[questions.Maker, ...]]]  # weight and questions of each style of telling the scene
LOOK_UP: Makers = {
    "kinds": (1, (questions.recognition, _in("kinds", questions.description))),
    "colours": (1, (questions.colour_at, _in("colours", questions.description))),
}
MOST: Makers = {
    "full": (5, questions.TEXT_FULL),
    "kinds": (3, questions.TEXT_KINDS),
    "colours": (2, questions.TEXT_COLOURS),
}
SEARCH: Makers = {
    "full": (5, (questions.position, questions.colour_of, questions.letter_of_colour, questions.inventory)),
    "kinds": (3, (questions.position_of_kind, _in("kinds", questions.inventory))),
    "colours": (2, (_in("colours", questions.inventory),)),
}
ALL: Makers = {**MOST, "full": (5, (*questions.TEXT_FULL, questions.inventory))}


@dataclass(frozen=True)
class Phase:
    """A stretch of the backbone's pre-training, first on some questions and then on more.

    Looking up comes first: on everything at once the answers stay guesses for thousands of steps.
    """

    num_layers: int
    steps: int
    lr: float
    batch_size: int
    first: Makers
    first_steps: int
    then: Makers


PHASES = (
    Phase(8, 3000, 3e-3, 24, LOOK_UP, 600, MOST),
    Phase(8, 1000, 2e-3, 24, SEARCH, 500, ALL),
    Phase(32, 700, 1.5e-3, 16, ALL, 0, ALL),
)


def conversation(rng: random.Random, makers: Makers, *, num_questions: int) -> tuple[str, list[tuple[str, str]]]:
    """A scene in words and (question, reply) pairs about it."""
    scene = sample(rng)
    style = rng.choices(tuple(makers), weights=[weight for weight, _ in makers.values()])[0]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < num_questions:
        question = rng.choice(makers[style][1])(scene, rng)
        if question is not None:
            pairs.append((questions.prompt(question), questions.reply(question)))
    return describe(scene, rng, style=style), pairs


def build_tokenizer(folder: Path) -> None:
    """Byte-level BPE in the layout of Llama-3's: every word of the world is one token, other text falls to bytes."""
    rng = random.Random(0)
    corpus = [SYSTEM + " USER: ASSISTANT: " + "\nAnswer the question using a single word or phrase."] * 50
    corpus += ["\nAnswer with the option's letter from the given choices directly."] * 50
    for _ in range(3000):
        scene, pairs = conversation(rng, MOST, num_questions=4)
        visual = [make(sample(rng), rng) for make in questions.VISUAL]
        pairs += [(questions.prompt(question), questions.reply(question)) for question in visual if question]
        corpus += [f"{scene}\n{text} ASSISTANT: {reply}" for text, reply in pairs]
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
    trainer = trainers.BpeTrainer(vocab_size=1024, min_frequency=20, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS)
    fast.save_pretrained(folder)


def text_batch(rng: random.Random, encode, makers: Makers, *, batch_size: int, num_questions: int, length: int):
    """Ids and labels, both (batch, length); only replies and their end token are supervised."""
    ids = torch.full((batch_size, length), encode(EOS)[0])
    labels = torch.full((batch_size, length), -100)
    for row in range(batch_size):
        scene, pairs = conversation(rng, makers, num_questions=num_questions)
        tokens, targets = list(encode(BOS) + encode(SYSTEM)), []
        for number, (text, reply) in enumerate(pairs):
            opening = f" USER: {scene}\n{text}" if number == 0 else f"USER: {text}"
            asked, replied = encode(opening + " ASSISTANT:"), encode(" " + reply) + encode(EOS)
            targets += [-100] * (len(tokens) + len(asked) - len(targets)) + list(replied)
            tokens += asked + replied
        end = min(length, len(tokens))
        ids[row, :end], labels[row, :end] = torch.tensor(tokens[:end]), torch.tensor(targets[:end])
    return ids, labels


def deepen(shallow: LlamaForCausalLM, num_layers: int, rng: random.Random) -> LlamaForCausalLM:
    """The same function with more decoder layers: each old layer goes to a random place in its stretch of the new
    stack, the others start as identities (zero output projections) and learn from there."""
    config = LlamaConfig(**{**shallow.config.to_dict(), "num_hidden_layers": num_layers})
    deep = LlamaForCausalLM(config)
    deep.model.embed_tokens.load_state_dict(shallow.model.embed_tokens.state_dict())
    deep.model.norm.load_state_dict(shallow.model.norm.state_dict())
    deep.lm_head.load_state_dict(shallow.lm_head.state_dict())
    for layer in deep.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.mlp.down_proj.weight)  # type: ignore[arg-type]
    stretch = num_layers // len(shallow.model.layers)
    for number, layer in enumerate(shallow.model.layers):
        deep.model.layers[number * stretch + rng.randrange(stretch)].load_state_dict(layer.state_dict())
    return deep


def train(parameters, step, *, steps: int, lr: float, name: str, warmup: int = 100, decay: float = 0.5) -> None:
    """AdamW with linear warm-up and a linear fall over the last part; `step(n) -> loss`."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    bar = tqdm(range(steps), desc=name)
    average = math.nan
    for number in bar:
        factor = min(1.0, (number + 1) / warmup, (steps - number) / (decay * steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        loss = step(number)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")


def build_backbone(folder: Path, tokenizer) -> None:
    """Pre-train a Llama of width 64 on text alone: first 8 layers, then, deepened, all 32. Each phase is kept."""
    encode = functools.lru_cache(maxsize=100_000)(
        lambda text: tuple(tokenizer(text, add_special_tokens=False).input_ids)
    )
    torch.manual_seed(0)
    model = fresh_backbone(tokenizer)
    for number, phase in enumerate(PHASES, start=1):
        kept = folder if phase is PHASES[-1] else folder.with_name(f"backbone-{number}")
        if kept.is_dir():
            model = LlamaForCausalLM.from_pretrained(kept)
            continue
        torch.manual_seed(number - 1)
        rng = random.Random(number)
        if phase.num_layers > model.config.num_hidden_layers:
            model = deepen(model, phase.num_layers, rng)
        pretrain(model, phase, rng, encode, name=f"backbone, phase {number} of {len(PHASES)}")
        model.save_pretrained(kept)


def fresh_backbone(tokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=PHASES[0].num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        initializer_range=0.06,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
            nn.init.normal_(output.weight, std=0.06 / math.sqrt(2 * PHASES[0].num_layers))  # type: ignore[arg-type]
    return model


def pretrain(model: LlamaForCausalLM, phase: Phase, rng: random.Random, encode, *, name: str) -> None:
    def step(number: int) -> torch.Tensor:
        makers = phase.first if number < phase.first_steps else phase.then
        ids, labels = text_batch(rng, encode, makers, batch_size=phase.batch_size, num_questions=12, length=208)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        kept = labels[:, 1:] != -100
        return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][kept]), labels[:, 1:][kept])

    decay = 0.2 if phase.num_layers == 8 else 0.6
    train(model.parameters(), step, steps=phase.steps, lr=phase.lr, name=name, decay=decay)
