"""Greedy answers of an LVLM to benchmarks: batched, shared among ranks, kept as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerBase

from vrx.answers import part_file, read_answers, read_parts, write_answer, write_answers
from vrx.benchmarks import Sample
from vrx.config import ModelConfig
from vrx.devices import device
from vrx.distributed import is_main, rank, world_size
from vrx.images import Pixels, open_rgb
from vrx.prompts import expand_images, tokenize_prompt


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

    def encode(self, sample: Sample) -> list[int]:
        """Token ids of a sample's prompt, image tokens in place."""
        prompt = tokenize_prompt(
            sample.prompt, self.tokenizer, self.config.template, has_image=sample.image is not None
        )
        number = self.config.num_image_tokens
        return expand_images(prompt, None, image_token_id=self.image_token_id, num_image_tokens=number)[0]

    @torch.inference_mode()
    def answer(self, samples: list[Sample], ids: list[list[int]], max_new_tokens: int) -> list[str]:
        """The texts a batch of samples is answered with, greedily; prompts are padded on the left."""
        length, pad = max(map(len, ids)), int(self.tokenizer.pad_token_id)  # type: ignore[arg-type]
        input_ids = torch.tensor([[pad] * (length - len(row)) + row for row in ids], device=device())
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids], device=device())
        images = [self.pixels(open_rgb(sample.image)) for sample in samples if sample.image]
        inputs = {"pixel_values": torch.stack(images).to(device(), self.lvlm.dtype)} if images else {}
        output = self.lvlm.generate(
            input_ids=input_ids, attention_mask=mask, do_sample=False, max_new_tokens=max_new_tokens, **inputs
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
    max_new_tokens: int,
    batch_size: int,
    made_from: str,
) -> None:
    """Answer a benchmark into this rank's part file, a batch at a time; what is there already is not asked again.

    Batches hold prompts of like length. A killed process loses the batch it was at.
    """
    mine = share(samples, done=read_parts(run_dir, name, made_from))
    encoded = sorted(
        ((generator.encode(sample), sample) for sample in mine), key=lambda pair: (len(pair[0]), pair[1].answer.id)
    )
    part = part_file(run_dir, name, rank())
    write_answers(part, made_from, read_answers(part, made_from).values())  # anew, without a last line that was cut
    bar = tqdm(total=len(mine), desc=name, unit="question", disable=not is_main(), delay=1, leave=False)
    with part.open("a", encoding="utf-8") as file, bar:
        for first in range(0, len(encoded), batch_size):
            batch = encoded[first : first + batch_size]
            texts = generator.answer([sample for _, sample in batch], [ids for ids, _ in batch], max_new_tokens)
            for (_, sample), text in zip(batch, texts, strict=True):
                write_answer(file, dataclasses.replace(sample.answer, text=text))
            file.flush()
            bar.update(len(batch))
