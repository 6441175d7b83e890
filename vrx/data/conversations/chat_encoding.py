"""Conversations with pictures as token ids, labels and tensors, by a checkpoint's own processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vrx.config.errors import UserError
from vrx.data.batch import TrainingSample
from vrx.data.conversations.chat_text import ChatTemplate, Message
from vrx.data.conversations.processors import Processor
from vrx.data.instructions.encoding import IGNORE
from vrx.data.joining import TOKEN_KEYS

NOT_FOR_THE_MODEL = ("input_ids", "attention_mask", "labels", "offset_mapping", "text_replacement_offsets")


class ChatEncoder:
    """Encodes conversations for one model.

    forward_keys: the arguments that the model's forward pass takes; other keys of the processor are left out.
    """

    def __init__(self, processor: Processor, *, forward_keys: frozenset[str], max_length: int | None = None) -> None:
        self.processor, self.forward_keys, self.max_length = processor, forward_keys, max_length
        self.tokenizer = processor.tokenizer
        self.template = ChatTemplate(self.tokenizer, processor.chat_template)
        added = self.tokenizer.added_tokens_decoder
        self.special_ids = {number for number, token in added.items() if token.special}
        self.special_ids |= set(self.tokenizer.all_special_ids)
        self.picture_token = getattr(processor, "image_token", None)
        # Gemma 3 has one token in the text of the template and another at the features' places
        self.picture_ids = {number for number in processor.image_token_ids if isinstance(number, int)}
        self.asks_for_types = {"return_mm_token_type_ids": True} if "mm_token_type_ids" in forward_keys else {}

    def encode(
        self, messages: Sequence[Message], pictures: Sequence[Image.Image], *, record: str = ""
    ) -> TrainingSample:
        """A conversation as a training sample: the answers and the token that ends each are learned.

        pictures: one for each picture part of the messages, in order. Where nothing ends the last answer, as in formats
        that end a turn by the next one's role, the tokenizer's end token is added. A sample longer than `max_length`
        is cut; one whose pictures would be cut ends before the first of these. record: names the sample in errors.
        """
        try:
            chat = self.template.render_answers(messages)
            sample = self._encode(chat.text, pictures, chat.answers)
            if self.max_length is not None and len(sample.input_ids) > self.max_length:
                sample = self._shortened(sample, chat.text, pictures, chat.answers, record)
        except UserError as error:
            raise UserError(f"{record}: {error}" if record else str(error)) from None
        if all(label == IGNORE for label in sample.labels[1:]):
            sample.masked_samples = [f"{record}: every label is masked (no answer within model.max_length)"]
        return sample

    def prompt(self, messages: Sequence[Message], pictures: Sequence[Image.Image]) -> TrainingSample:
        """A conversation to generate the next answer of; nothing is learned."""
        return self._encode(self.template.render(messages, add_generation_prompt=True), pictures, [])

    def next_ids(self, prompt: str, answers: Sequence[str]) -> list[int]:
        """The first token of each possible answer to a question of text alone."""
        message = {"role": "user", "content": [{"type": "text", "text": prompt}]}
        text = self.template.render([message], add_generation_prompt=True)
        begin = len(self._encode(text, [], []).input_ids)
        return [self._encode(text + answer, [], []).input_ids[begin] for answer in answers]

    def _encode(self, text: str, pictures: Sequence[Image.Image], answers: Sequence[tuple[int, int]]) -> TrainingSample:
        output = self._process(text, pictures)
        ids = output["input_ids"][0].tolist()
        self._require_picture_tokens(ids, output, len(pictures))
        labels = [IGNORE] * len(ids)
        offsets = output["offset_mapping"][0].tolist()
        end = 0
        tokens: list[int] = []
        for span in _moved(answers, output.get("text_replacement_offsets")):
            tokens = [place for place, token in enumerate(offsets) if token[0] < span[1] and token[1] > span[0]]
            end = tokens[-1] + 1 if tokens else end
            ending = self._ending(ids, end, offsets, output) if tokens else end
            for place in (*tokens, *range(end, ending)):
                labels[place] = ids[place]
            end = ending
        tensors = self._tensors(output)
        if tokens and labels[end - 1] not in self.special_ids and self.special_ids.isdisjoint(ids[end:]):
            ids, labels = [*ids[:end], self.tokenizer.eos_token_id], [*labels[:end], self.tokenizer.eos_token_id]
            tensors = {key: _with_length(key, tensor, len(ids)) for key, tensor in tensors.items()}
        return TrainingSample(ids, labels, tensors=tensors, num_pictures=len(pictures))

    def _process(self, text: str, pictures: Sequence[Image.Image]) -> Any:
        """The processor's output for one text."""
        placeholder = self.picture_token
        if placeholder is not None and text.count(placeholder) != len(pictures):
            raise UserError(
                f"messages: {text.count(placeholder)} times {placeholder} in the text of {len(pictures)} pictures; "
                "valid is a text without the token that stands for a picture"
            )
        bos = self.tokenizer.bos_token
        try:
            return self.processor(
                text=[text],
                images=[list(pictures)] if pictures else None,
                add_special_tokens=not (bos and text.startswith(bos)),
                return_offsets_mapping=True,
                return_text_replacement_offsets=True,
                return_tensors="np",
                **self.asks_for_types,
            )
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"messages: {type(self.processor).__name__} refuses them: {reason}") from None

    def _require_picture_tokens(self, ids: Sequence[int], output: Any, num_pictures: int) -> None:
        """Refuse ids that lack tokens of a picture, as from a tokenizer that does not know them."""
        num_picture_tokens = sum(token in self.picture_ids for token in ids)
        if num_pictures and not num_picture_tokens:
            raise UserError(f"messages: {num_pictures} pictures, but no token of a picture in the ids")

    def _ending(self, ids: list[int], end: int, offsets: list[list[int]], output: Any) -> int:
        """The place after the token that ends an answer, which may follow blanks; `end` where no such token follows."""
        position = end
        while position < len(ids) and ids[position] not in self.special_ids:
            start, stop = offsets[position]
            if self.tokenizer.decode([ids[position]]).strip() or start == stop:
                return end
            position += 1
        return position + 1 if position < len(ids) and ids[position] not in self.picture_ids else end

    def _tensors(self, output: Any) -> dict[str, Tensor]:
        """The tensors that the model takes beside the ids, in the form of `vrx.data.joining`."""
        tensors = {}
        for key, value in output.items():
            if key in NOT_FOR_THE_MODEL or key not in self.forward_keys or value is None:
                continue
            tensor = torch.as_tensor(value)
            tensors[key] = tensor[0] if key in TOKEN_KEYS else tensor
        return tensors

    def _shortened(
        self,
        sample: TrainingSample,
        text: str,
        pictures: Sequence[Image.Image],
        answers: Sequence[tuple[int, int]],
        record: str,
    ) -> TrainingSample:
        """A sample cut to `max_length`, before the first picture that would not fit."""
        assert self.max_length is not None
        if pictures and any(token in self.picture_ids for token in sample.input_ids[self.max_length :]):
            fitting = list(pictures)
            while fitting:
                fitting.pop()
                text = text[: self._place_of_picture(text, len(fitting))]
                kept = [(start, min(end, len(text))) for start, end in answers if start < len(text)]
                sample = self._encode_part(text, fitting, kept)
                if not any(token in self.picture_ids for token in sample.input_ids[self.max_length :]):
                    break
            sample.cut_images = [f"{record}: model.max_length={self.max_length}"]
        length = min(self.max_length, len(sample.input_ids))
        sample.input_ids, sample.labels = sample.input_ids[:length], sample.labels[:length]
        sample.tensors = {key: _with_length(key, tensor, length) for key, tensor in sample.tensors.items()}
        return sample

    def _encode_part(
        self, text: str, pictures: Sequence[Image.Image], answers: Sequence[tuple[int, int]]
    ) -> TrainingSample:
        """The beginning of a sample; an end token that only this beginning would get is left out."""
        sample = self._encode(text, pictures, answers)
        length = len(self._process(text, pictures)["input_ids"][0])
        sample.input_ids, sample.labels = sample.input_ids[:length], sample.labels[:length]
        return sample

    def _place_of_picture(self, text: str, number: int) -> int:
        """Where in a text the token of a picture stands, counted from 0."""
        assert self.picture_token is not None
        position = -1
        for _ in range(number + 1):
            position = text.index(self.picture_token, position + 1)
        return position


def _moved(
    spans: Sequence[tuple[int, int]], replacements: Sequence[Sequence[dict[str, Any]]] | None
) -> list[tuple[int, int]]:
    """Spans of a text as spans of the text in which the processor has put the tokens of each picture."""
    moved = []
    for start, end in spans:
        grown = 0
        for replacement in replacements[0] if isinstance(replacements, list) and replacements else ():
            if replacement["span"][1] <= start:
                grown = replacement["new_span"][1] - replacement["span"][1]
        moved.append((start + grown, end + grown))
    return moved


def _with_length(key: str, tensor: Tensor, length: int) -> Tensor:
    """A tensor along the tokens, cut or continued to a length; others stay.

    A new token is text. What a token may see of the pictures (`cross_attention_mask`) is that of the token before.
    """
    if key not in TOKEN_KEYS:
        return tensor
    missing = length - len(tensor)
    if missing <= 0:
        return tensor[:length]
    last = tensor[-1:] if tensor.ndim > 1 else tensor.new_zeros(1)
    return torch.cat([tensor, *[last] * missing])
