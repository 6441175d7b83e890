"""Greedy generation with an LVLM: prompts as token ids, batches of answers, log-probabilities of option letters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer

from vrx.config.schema import ModelConfig, RunConfig
from vrx.data import tokenizers
from vrx.data.batch import MicroBatch, TrainingSample, collate
from vrx.data.images.processing import Pixels
from vrx.data.instructions.chat_templates import IMAGE_TAG, get_template
from vrx.data.instructions.encoding import expand_images, tokenize, tokenize_prompt
from vrx.evaluation.families import LETTERS, Sample
from vrx.evaluation.image_loading import load_image, load_images
from vrx.evaluation.kv_cache import preallocated_cache
from vrx.evaluation.watched_logits import AreNumbers, FirstTokenLogProbs, no_numbers
from vrx.launch.devices import device, dtype
from vrx.metrics.answer import Answer
from vrx.models import from_run
from vrx.models.loading import image_token_id, load_model_tokenizer
from vrx.models.lvlm import forward_inputs


@dataclass(frozen=True)
class EncodedSample:
    """A question as the model gets it.

    prompt_ids: (length,) token ids with image tokens in place. pixels: (3, H, W) float32, or None without an image.
    tensors, num_pictures: as of a `TrainingSample`, of a model with a processor of its own.
    """

    sample: Sample
    prompt_ids: list[int]
    pixels: Tensor | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    num_pictures: int = 0

    @property
    def row(self) -> TrainingSample:
        """The prompt as a row of a micro-batch."""
        ids = self.prompt_ids
        return TrainingSample(ids, ids, self.pixels, tensors=self.tensors, num_pictures=self.num_pictures)


AnswerFunction = Callable[[list[EncodedSample]], list[Answer]]  # answers a batch, in its order


class Generator:
    """An LVLM on its device with everything that answering questions needs."""

    def __init__(self, lvlm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
        self.lvlm: Any = lvlm.to(device()).eval()  # type: ignore[arg-type]
        self.tokenizer, self.config = tokenizer, config
        self.processor = tokenizer  # what a checkpoint is saved with
        if config.is_assembled:
            self.image_token_id = image_token_id(config, tokenizer)
            self.image_processor = Pixels(config)

    @classmethod
    def load(cls, run: RunConfig, run_dir: Path, *, is_altered: bool = True) -> Generator:
        """The LVLM that a run left in `run_dir` (tuned, reverted or pruned), or the base model where it left none.

        is_altered: false for the LVLM before layers were reverted or pruned.
        """
        load = from_run.load_from_run if is_altered else from_run.load_tuned
        lvlm = load(run.model, run_dir, dtype=dtype(run.train))
        if not run.model.is_assembled:
            from vrx.evaluation.native_generation import NativeGenerator

            return NativeGenerator(lvlm, run.model)
        return cls(lvlm, load_model_tokenizer(run.model), run.model)

    @property
    def is_exact(self) -> bool:
        """Whether answers cannot depend on the batch; tests verify this for float32 on a CPU."""
        return self.lvlm.device.type == "cpu" and self.lvlm.dtype == torch.float32

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)  # type: ignore[arg-type]

    def prompt_ids(self, sample: Sample) -> list[int]:
        """Token ids of a sample's prompt, (length,), image tokens in place."""
        prompt = tokenize_prompt(
            sample.prompt, self.tokenizer, self.config.template, has_image=sample.image is not None
        )
        number = self.config.num_image_tokens
        return expand_images(prompt, None, image_token_id=self.image_token_id, num_image_tokens=number)[0]

    def encode(self, sample: Sample) -> EncodedSample:
        """A sample with its prompt and image encoded; `BadImage` names the sample."""
        return EncodedSample(sample, self.prompt_ids(sample), load_image(sample, self.image_processor))

    def encode_all(
        self, prompts: Sequence[tuple[list[int], Sample]], *, num_workers: int, num_ahead: int
    ) -> Iterator[EncodedSample]:
        """Samples with the ids that `prompt_ids` gave, in their order; their images are loaded ahead."""
        samples = [sample for _, sample in prompts]
        images = load_images(samples, self.image_processor, num_workers=num_workers, num_ahead=num_ahead)
        for (prompt_ids, sample), pixels in zip(prompts, images, strict=True):
            yield EncodedSample(sample, prompt_ids, pixels)

    def training_sample(self, encoded: EncodedSample) -> TrainingSample:
        """Question and first reference, in which the reference and its end token are labelled."""
        sample, config = encoded.sample, self.config
        tokenized = tokenize(_turns(sample), self.tokenizer, config.template, has_image=sample.image is not None)
        ids, labels = expand_images(
            tokenized.input_ids,
            tokenized.labels,
            image_token_id=self.image_token_id,
            num_image_tokens=config.num_image_tokens,
        )
        return TrainingSample(ids, labels, encoded.pixels)

    def letter_ids(self, letters: str) -> list[int]:
        """The first token of each letter as an answer."""
        template = get_template(self.config.template)
        opening = f"{template.gpt}{template.mark}"
        return [tokenizers.encode(opening + letter, self.tokenizer, has_image=False)[-1] for letter in letters]

    def encode_turns(self, sample: Sample, later_turns: Sequence[str]) -> EncodedSample:
        """As `encode`, of a conversation that begins with the sample's prompt: answers and questions in turn."""
        conversation = [_question(sample), *({"from": who, "value": text} for who, text in _roles(later_turns))]
        template, has_image = self.config.template, sample.image is not None
        ids = tokenize_prompt(conversation, self.tokenizer, template, has_image=has_image)
        number, token = self.config.num_image_tokens, self.image_token_id
        prompt_ids = expand_images(ids, None, image_token_id=token, num_image_tokens=number)[0]
        return EncodedSample(sample, prompt_ids, load_image(sample, self.image_processor))

    def answer(
        self, batch: Sequence[EncodedSample], max_new_tokens: int, *, streamer: BaseStreamer | None = None
    ) -> list[str]:
        """The greedy answers to a batch, stripped of outer blanks; prompts are padded on the left.

        streamer: gets the tokens of a batch of one as they come. `UserError` where logits are no numbers.
        """
        return self._generate(batch, max_new_tokens, [], streamer)

    def answer_with_letter_log_probs(
        self, batch: Sequence[EncodedSample], max_new_tokens: int
    ) -> list[tuple[str, tuple[float, ...]]]:
        """As `answer`, with the log-probability of each option's letter as the first token (as hendrycks/test)."""
        first_token = FirstTokenLogProbs(self.letter_ids(LETTERS))
        texts = self._generate(batch, max_new_tokens, [first_token])
        return [
            (text, tuple(row[: len(encoded.sample.answer.choices)]))
            for encoded, text, row in zip(batch, texts, first_token.rows, strict=True)
        ]

    @torch.inference_mode()
    def _generate(
        self,
        batch: Sequence[EncodedSample],
        max_new_tokens: int,
        processors: list[LogitsProcessor],
        streamer: BaseStreamer | None = None,
    ) -> list[str]:
        rows, numbers = [encoded.row for encoded in batch], AreNumbers()
        inputs = forward_inputs(self.lvlm, collate(rows, pad_token_id=self.pad_token_id, side="left"))
        output = self.lvlm.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList([*processors, numbers]),
            streamer=streamer,
            past_key_values=preallocated_cache(self.lvlm.config.get_text_config()),
        )
        for encoded, are_numbers in zip(batch, numbers.rows, strict=True):
            if not are_numbers:
                raise no_numbers(encoded.sample, self.lvlm.dtype)
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self.decode(ids).strip() for ids in answers]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids, as the official code of the model decodes it."""
        if self.config.is_assembled and get_template(self.config.template).tokenizer_files == "llama":
            return tokenizers.decode_as_sentencepiece(ids, self.tokenizer)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def text_answer_function(generator: Generator, max_new_tokens: int, *, letters: bool = False) -> AnswerFunction:
    """Answers as texts; with `letters` also the log-probabilities of the option letters."""

    def answer(batch: list[EncodedSample]) -> list[Answer]:
        if letters:
            pairs = generator.answer_with_letter_log_probs(batch, max_new_tokens)
        else:
            pairs = [(text, ()) for text in generator.answer(batch, max_new_tokens)]
        return [
            dataclasses.replace(encoded.sample.answer, text=text, choice_log_probs=log_probs)
            for encoded, (text, log_probs) in zip(batch, pairs, strict=True)
        ]

    return answer


def prompt_batches(
    generator: Generator, samples: Sequence[Sample], *, batch_size: int, num_workers: int = 0
) -> Iterator[MicroBatch]:
    """Questions with images as micro-batches padded on the right, in their order; each is made when it is needed."""
    assert all(sample.image for sample in samples), "layers are scored on samples with an image"
    prompts = [(generator.prompt_ids(sample), sample) for sample in samples]
    encoded = generator.encode_all(prompts, num_workers=num_workers, num_ahead=batch_size)
    while batch := list(islice(encoded, batch_size)):
        yield collate([sample.row for sample in batch], pad_token_id=generator.pad_token_id)


def _roles(later_turns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The turns after the first question, each with its role."""
    for number, text in enumerate(later_turns):
        yield ("gpt", "human")[number % 2], text


def _question(sample: Sample) -> dict[str, str]:
    needs_tag = sample.image is not None and IMAGE_TAG not in sample.prompt
    return {"from": "human", "value": f"{IMAGE_TAG}\n{sample.prompt}" if needs_tag else sample.prompt}


def _turns(sample: Sample) -> list[dict[str, str]]:
    return [_question(sample), {"from": "gpt", "value": sample.answer.references[0]}]
