"""Greedy answers of an LVLM to benchmarks: batched, shared among ranks, kept as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, LogitsProcessorList, PreTrainedTokenizerBase

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data import tokenizers
from vrx.data.chat_templates import get_template
from vrx.data.encoding import expand_images, tokenize_prompt
from vrx.data.image_processing import Pixels, open_rgb
from vrx.evaluation.families import LETTERS, Sample
from vrx.evaluation.kv_cache import roomy_cache
from vrx.evaluation.prediction_files import (
    PredictionHeader,
    part_file,
    read_parts,
    read_predictions,
    write_prediction,
    write_predictions,
)
from vrx.launch.devices import device
from vrx.launch.logging import is_main, log, rank
from vrx.launch.ranks import world_size
from vrx.metrics.answer import Answer

MANY = 1 << 40  # tokens of a batch, until the GPU's memory says how many
CPU_TOKENS = 1 << 14  # tokens of a batch; a machine's memory, unlike a GPU's, is not refused before it is too late
Respond = Callable[[list[Sample], list[list[int]]], list[Answer]]  # to a batch of samples and their prompts' ids


class Generator:
    """An LVLM ready to answer questions."""

    def __init__(
        self,
        lvlm: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        config: ModelConfig,
        *,
        image_token_id: int,
    ) -> None:
        self.lvlm = lvlm.to(device()).eval()  # type: ignore[arg-type]
        self.tokenizer, self.config, self.image_token_id = tokenizer, config, image_token_id
        self.pixels = Pixels(config)

    @property
    def is_exact(self) -> bool:
        """Whether answers cannot depend on the batch: tests hold float32 on a CPU to that."""
        return self.lvlm.device.type == "cpu" and self.lvlm.dtype == torch.float32

    def encode(self, sample: Sample) -> list[int]:
        """Token ids of a sample's prompt, image tokens in place."""
        prompt = tokenize_prompt(
            sample.prompt, self.tokenizer, self.config.template, has_image=sample.image is not None
        )
        number = self.config.num_image_tokens
        return expand_images(prompt, None, image_token_id=self.image_token_id, num_image_tokens=number)[0]

    def answer(self, samples: list[Sample], ids: list[list[int]], max_new_tokens: int) -> list[str]:
        """The texts a batch of samples is answered with, greedily; prompts are padded on the left."""
        return self._generate(samples, ids, max_new_tokens, [])

    def answer_and_weigh_letters(
        self, samples: list[Sample], ids: list[list[int]], max_new_tokens: int
    ) -> list[tuple[str, tuple[float, ...]]]:
        """`answer`, and the log-probability each option's letter has to be the first token (as hendrycks/test)."""
        role = get_template(self.config.template).gpt
        letters = [tokenizers.encode(f"{role}: {letter}", self.tokenizer, has_image=False)[-1] for letter in LETTERS]
        first: list[torch.Tensor] = []

        def remember(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            if not first:
                first.append(logits.float().log_softmax(-1)[:, letters].cpu())
            return logits

        texts = self._generate(samples, ids, max_new_tokens, [remember])
        rows = first[0].tolist()
        return [
            (text, tuple(row[: len(sample.answer.choices)]))
            for sample, text, row in zip(samples, texts, rows, strict=True)
        ]

    @torch.inference_mode()
    def _generate(self, samples: list[Sample], ids: list[list[int]], max_new_tokens: int, watching: list) -> list[str]:
        length, pad = max(map(len, ids)), int(self.tokenizer.pad_token_id)  # type: ignore[arg-type]
        input_ids = torch.tensor([[pad] * (length - len(row)) + row for row in ids], device=device())
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids], device=device())
        images = [self.pixels(open_rgb(sample.image)) for sample in samples if sample.image]
        inputs = {"pixel_values": torch.stack(images).to(device(), self.lvlm.dtype)} if images else {}
        output = self.lvlm.generate(
            input_ids=input_ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList(watching),
            past_key_values=roomy_cache(self.lvlm.config.get_text_config()),
            **inputs,
        )
        texts = self.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        return [text.strip() for text in texts]


def share(samples: Sequence[Sample], *, done: Container[str]) -> list[Sample]:
    """What this rank is to answer. Whose a sample is does not depend on what is done: another rank may be at work."""
    return [sample for sample in samples[rank() :: world_size()] if sample.answer.id not in done]


def generate(
    generator: Generator,
    name: str,
    samples: list[Sample],
    run_dir: Path,
    *,
    respond: Respond,
    batch_size: int,
    key: str,
) -> None:
    """Answer a benchmark into this rank's part file, a batch at a time; what is there already is not asked again.

    Batches hold prompts of like length, the longest first: where the GPU's memory does not hold a batch it shows at
    once, and batches hold half as many tokens from then on. A killed process loses the batch it was at.
    """
    mine = share(samples, done=read_parts(run_dir, name, key))
    encoded = sorted(
        ((generator.encode(sample), sample) for sample in mine), key=lambda pair: (-len(pair[0]), pair[1].answer.id)
    )
    part = part_file(run_dir, name, rank())
    written = read_predictions(part, key).values()
    write_predictions(part, PredictionHeader(key), written)  # again, without a last line that was cut
    tokens = MANY if device().type == "cuda" else CPU_TOKENS
    bar = tqdm(total=len(mine), desc=name, unit="question", disable=not is_main(), delay=1, leave=False)
    with part.open("a", encoding="utf-8") as file, bar:
        while encoded:
            longest = len(encoded[0][0])
            batch = encoded[: max(1, min(batch_size, tokens // longest))]
            try:
                answers = respond([sample for _, sample in batch], [ids for ids, _ in batch])
            except torch.cuda.OutOfMemoryError:
                answers = None  # outside the handler, whose traceback holds the tensors
            if answers is None:
                tokens = _fewer(name, len(batch)) * longest
                continue
            for answer in answers:
                write_prediction(file, answer)
            file.flush()
            encoded = encoded[len(batch) :]
            bar.update(len(batch))


def _fewer(name: str, number: int) -> int:
    """Half as many questions as memory did not hold."""
    torch.cuda.empty_cache()
    if number == 1:
        raise UserError(f"benchmark.{name}: the GPU's memory does not hold one question; take a larger or a freer GPU")
    log(f"{name}: {number} questions at a time are more than the GPU's memory holds; going on with half")
    return number // 2


def answer_texts(generator: Generator, max_new_tokens: int, *, weigh_letters: bool = False) -> Respond:
    """Ask for texts; with `weigh_letters` for the log-probabilities of the option letters as well."""

    def respond(samples: list[Sample], ids: list[list[int]]) -> list[Answer]:
        if weigh_letters:
            pairs = generator.answer_and_weigh_letters(samples, ids, max_new_tokens)
        else:
            pairs = [(text, ()) for text in generator.answer(samples, ids, max_new_tokens)]
        return [
            dataclasses.replace(sample.answer, text=text, choice_log_probs=letters)
            for sample, (text, letters) in zip(samples, pairs, strict=True)
        ]

    return respond
