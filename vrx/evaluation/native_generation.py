"""Answers of an LVLM that is one checkpoint: prompts by its own chat template, pictures by its own processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from vrx.config.errors import BadImage, UserError
from vrx.config.schema import ModelConfig
from vrx.data.batch import TrainingSample
from vrx.data.conversations.chat_encoding import ChatEncoder
from vrx.data.conversations.processors import forward_keys, load_processor
from vrx.data.images.processing import open_rgb
from vrx.data.instructions.chat_templates import IMAGE_TAG
from vrx.evaluation.families import Sample
from vrx.evaluation.generation import EncodedSample, Generator


class NativeGenerator(Generator):
    """A `Generator` whose prompts and pixels are those of the checkpoint's processor."""

    def __init__(self, lvlm: PreTrainedModel, config: ModelConfig) -> None:
        processor = load_processor(config)
        super().__init__(lvlm, processor.tokenizer, config)
        self.processor = processor
        self.encoder = ChatEncoder(processor, forward_keys=forward_keys(config))
        _end_at(lvlm, processor.tokenizer.eos_token_id)

    def prompt_ids(self, sample: Sample) -> list[int]:
        """About as many ids as the prompt has; how many a picture takes, its processor tells when it is loaded."""
        text = self.encoder.template.render([question(sample)], add_generation_prompt=True)
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids + [0] * (self.config.num_image_tokens if sample.image is not None else 0)

    def encode(self, sample: Sample) -> EncodedSample:
        """A sample with its prompt and image encoded; `BadImage` names the sample."""
        return _encoded(self.encoder, sample)

    def encode_turns(self, sample: Sample, later_turns: Sequence[str]) -> EncodedSample:
        """As `encode`, of a conversation that begins with the sample's prompt: answers and questions in turn."""
        later = [
            {"role": ("assistant", "user")[number % 2], "content": [{"type": "text", "text": text}]}
            for number, text in enumerate(later_turns)
        ]
        row = self.encoder.prompt([question(sample), *later], _pictures(sample))
        return EncodedSample(sample, row.input_ids, tensors=row.tensors, num_pictures=row.num_pictures)

    def encode_all(
        self, prompts: Sequence[tuple[list[int], Sample]], *, num_workers: int, num_ahead: int
    ) -> Iterator[EncodedSample]:
        """Samples in their order; `num_workers` processes encode about `num_ahead` of them before they are needed."""
        samples = [sample for _, sample in prompts]
        if num_workers == 0 or not any(sample.image for sample in samples):
            yield from map(self.encode, samples)
            return
        prefetch = max(2, -(-num_ahead // num_workers))
        ahead = _Encoded(self.encoder, samples)
        for row in DataLoader(ahead, batch_size=None, num_workers=num_workers, prefetch_factor=prefetch):
            if isinstance(row, BadImage):
                raise row
            yield row

    def training_sample(self, encoded: EncodedSample) -> TrainingSample:
        """Question and first reference, in which the reference and its end token are labelled."""
        sample = encoded.sample
        answer = {"role": "assistant", "content": [{"type": "text", "text": sample.answer.references[0]}]}
        return self.encoder.encode([question(sample), answer], _pictures(sample), record=f"sample {sample.answer.id}")

    def letter_ids(self, letters: str) -> list[int]:
        """The first token of each letter as an answer."""
        try:
            return self.encoder.next_ids("", list(letters))
        except UserError:  # of a processor that takes no text without a picture
            return [self.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in letters]


class _Encoded(Dataset[EncodedSample | BadImage]):
    """Encoded prompts by position. An error is a value here, so that it reads the same with and without workers."""

    def __init__(self, encoder: ChatEncoder, samples: Sequence[Sample]) -> None:
        self.encoder, self.samples = encoder, samples

    def __getitem__(self, position: int) -> EncodedSample | BadImage:
        try:
            return _encoded(self.encoder, self.samples[position])
        except BadImage as error:
            return error

    def __len__(self) -> int:
        return len(self.samples)


def _encoded(encoder: ChatEncoder, sample: Sample) -> EncodedSample:
    row = encoder.prompt([question(sample)], _pictures(sample))
    if sample.box_scale is not None:
        frame = box_frame(encoder, row, sample.box_scale)
        sample = replace(sample, answer=replace(sample.answer, box_frame=frame))
    return EncodedSample(sample, row.input_ids, tensors=row.tensors, num_pictures=row.num_pictures)


def box_frame(encoder: ChatEncoder, row: TrainingSample, scale: str) -> tuple[float, float]:
    """Width and height of a prompt's picture in the coordinates of the model's boxes.

    scale: a number for both, or `resized`: the pixels of the picture as the model sees it.
    """
    if scale != "resized":
        return float(scale), float(scale)
    grid = row.tensors.get("image_grid_thw")
    if grid is None or len(grid) != 1:
        name = type(encoder.processor).__name__
        raise UserError(f"box_scale=resized: {name} does not tell the size of a resized picture; valid is a number")
    _, height, width = grid[0].tolist()
    side = encoder.processor.image_processor.patch_size
    return float(width * side), float(height * side)


def question(sample: Sample) -> dict[str, Any]:
    """A question as a message: the picture where its tag stands, else before the text."""
    before, tag, after = sample.prompt.partition(IMAGE_TAG)
    texts = [before, after.lstrip("\n")] if tag else ["", sample.prompt]
    parts = [{"type": "text", "text": text} for text in texts]
    if sample.image is not None:
        parts.insert(1, {"type": "image"})
    return {"role": "user", "content": [part for part in parts if part["type"] == "image" or part["text"]]}


def _pictures(sample: Sample) -> list[Image.Image]:
    if sample.image is None:
        return []
    try:
        return [open_rgb(sample.image)]
    except BadImage as error:
        raise BadImage(f"sample {sample.answer.id}: image {error}") from None


def _end_at(lvlm: PreTrainedModel, token: int) -> None:
    """Let an answer end at the tokenizer's end token too: a base model's own settings end texts, not turns."""
    settings: Any = lvlm.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    settings.eos_token_id = list(dict.fromkeys(end for end in (*ends, token) if end is not None))
