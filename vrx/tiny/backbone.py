"""The backbone of the embedded LVLM: a Llama pre-trained on the world's text alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vrx.tiny import choices as c
from vrx.tiny import questions as q
from vrx.tiny.hops import HOPS
from vrx.tiny.kinds import TEXT
from vrx.tiny.lists import by_kind, by_name, description
from vrx.tiny.steps import STEPS, science_steps
from vrx.tiny.text import BOS, EOS, Encode, Makers, text_batch, word_encoder

LOOK_UP: Makers = (q.recognition, q.colour_at, description, by_kind, by_name)
CHOOSE: Makers = (c.options, c.option, c.option, q.recognition, q.presence, q.relation)
HARD: Makers = (c.options, *[c.option] * 2, *[c.choice] * 3, *[c.science] * 2, *[q.relation] * 3, q.presence, q.line)
HARDEST: Makers = (
    q.ocr,
    *[q.relation] * 4,
    *[c.choice] * 4,
    *[c.science] * 3,
    *[c.fact_choice] * 3,
    *[q.line] * 2,
    c.fact,
)


SCIENCE: Makers = (*[c.science] * 3, *[science_steps] * 3)


@dataclass(frozen=True)
class Phase:
    """A phase of the backbone's pre-training: some kinds of questions first, then more.

    The first kinds, and dense ones such as descriptions, teach what the others need. Trained on all kinds at once, the
    model guesses for thousands of steps.
    """

    num_layers: int
    steps: int
    lr: float  # for the matrices of the decoder layers, with Muon
    batch_size: int
    length: int  # tokens per row
    first: Makers
    first_steps: int
    then: Makers
    captions: float = 0.0  # the share of rows that begin with a caption

    def batch(
        self, rng: random.Random, encode: Encode, *, step: int, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and labels of a step, both (batch, length)."""
        makers = self.first if step < self.first_steps else self.then
        return text_batch(
            rng,
            encode,
            makers,
            batch_size=batch_size,
            num_questions=6,
            length=self.length,
            captions=self.captions,
        )


PHASES = (
    Phase(16, 1000, 0.01, 28, 120, LOOK_UP, 300, TEXT),
    Phase(32, 2600, 0.008, 28, 130, CHOOSE, 250, (*TEXT, *HARD)),
    Phase(32, 2000, 0.008, 24, 150, STEPS, 200, (*TEXT, *STEPS, *STEPS, *HARDEST), captions=0.25),
    Phase(
        32,
        1000,
        0.006,
        24,
        150,
        (*HOPS, *SCIENCE),
        100,
        (*TEXT, *STEPS, *HOPS, *HOPS, *HARDEST, *SCIENCE),
        captions=0.25,
    ),
)


def deepen(shallow: LlamaForCausalLM, num_layers: int) -> LlamaForCausalLM:
    """A deeper backbone that computes nearly the same function.

    Each layer stands there several times in a row, its output projections divided by that number: a residual network
    is read as a flow that is integrated in smaller steps.
    """
    config = LlamaConfig(**{**shallow.config.to_dict(), "num_hidden_layers": num_layers})
    deep = LlamaForCausalLM(config)
    deep.model.embed_tokens.load_state_dict(shallow.model.embed_tokens.state_dict())
    deep.model.norm.load_state_dict(shallow.model.norm.state_dict())
    deep.lm_head.load_state_dict(shallow.lm_head.state_dict())
    copies = num_layers // len(shallow.model.layers)
    for number, layer in enumerate(deep.model.layers):
        layer.load_state_dict(shallow.model.layers[number // copies].state_dict())
        for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
            output.weight.data.div_(copies)  # type: ignore[operator]
    return deep


def train(
    parameters: Iterable[nn.Parameter],
    step: Callable[[int], torch.Tensor],
    *,
    steps: int,
    lr: float,
    name: str,
    matrices: Sequence[nn.Parameter] = (),
    matrices_lr: float = 0.0,
) -> None:
    """Train with AdamW, and Muon for `matrices`, with a short warm-up and a linear decay.

    step: from the number of the step to its loss. Muon, which orthogonalises the update of a matrix, learns the
    backbone's look-ups in a third of the steps.
    """
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    ]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=matrices_lr, weight_decay=0.0, adjust_lr_fn="original"))
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    trained = [tensor for group, _ in groups for tensor in group["params"]]
    bar = tqdm(range(steps), desc=name)
    average = math.nan
    for number in bar:
        for group, peak in groups:
            group["lr"] = peak * min(1.0, (number + 1) / 100, (steps - number) / (0.8 * steps))
        loss = step(number)
        for tensor in trained:
            tensor.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}")


def build_backbone(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Pre-train a Llama of width 64 on text alone: 16 layers first, then all 32. Saves the model of every phase."""
    encode = word_encoder(tokenizer)
    torch.manual_seed(0)
    model = fresh_backbone(tokenizer, PHASES[0].num_layers)
    for number, phase in enumerate(PHASES, start=1):
        checkpoint = folder if phase is PHASES[-1] else folder.with_name(f"backbone-{number}")
        if checkpoint.is_dir():
            model = LlamaForCausalLM.from_pretrained(checkpoint)
            continue
        torch.manual_seed(number - 1)
        rng = random.Random(number)
        if phase.num_layers > model.config.num_hidden_layers:
            model = deepen(model, phase.num_layers)
        pretrain(model, phase, rng, encode, name=f"backbone, phase {number} of {len(PHASES)}")
        model.save_pretrained(checkpoint)


def fresh_backbone(tokenizer: PreTrainedTokenizerFast, num_layers: int) -> LlamaForCausalLM:
    """A Llama of width 64 with initial weights."""
    vocabulary = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        head_dim=32,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=vocabulary[BOS],
        eos_token_id=vocabulary[EOS],
        pad_token_id=vocabulary[EOS],
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
        initializer_range=0.06,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
            nn.init.normal_(output.weight, std=0.06 / math.sqrt(2 * num_layers))  # type: ignore[arg-type]
    return model


def answer_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean loss of the supervised tokens of (batch, length) ids, in nats."""
    return supervised_loss(model, model.model(input_ids=ids, use_cache=False).last_hidden_state, labels)


def supervised_loss(model: LlamaForCausalLM, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`answer_loss` from the last hidden state, (batch, length, width); logits of supervised tokens alone."""
    supervised = labels[:, 1:] != -100
    return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][supervised]), labels[:, 1:][supervised])


def pretrain(model: LlamaForCausalLM, phase: Phase, rng: random.Random, encode: Encode, *, name: str) -> None:
    """Run one phase of the pre-training on the model."""

    def step(number: int) -> torch.Tensor:
        return answer_loss(model, *phase.batch(rng, encode, step=number, batch_size=phase.batch_size))

    matrices = [tensor for tensor in model.model.layers.parameters() if tensor.ndim == 2]
    matrix_ids = {id(tensor) for tensor in matrices}
    rest = [tensor for tensor in model.parameters() if id(tensor) not in matrix_ids]
    train(rest, step, steps=phase.steps, lr=3e-3, name=name, matrices=matrices, matrices_lr=phase.lr)
