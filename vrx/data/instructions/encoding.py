"""Conversations as token ids and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrx.data import tokenizers
from vrx.data.instructions.chat_templates import IMAGE_TAG, Conversation, Template, get_template, render
from vrx.data.tokenizers import IMAGE_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label of a position that is not learned
CAPTION_END = "\n"  # after a caption, instead of an end token


@dataclass(frozen=True)
class Encoded:
    """Ids and labels of one conversation, of the same length; positions that are not learned have the label IGNORE.

    mismatch: (tokens counted by rounds, actual tokens) if these differ. The official code then masks every label.
    """

    input_ids: list[int]
    labels: list[int]
    mismatch: tuple[int, int] | None = None


def tokenize(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerBase,
    template: str | Template,
    *,
    has_image: bool,
    max_length: int | None = None,
) -> Encoded:
    """Ids and labels of one training sample; the answers and their end tokens are learned.

    The ids have IMAGE_TOKEN at each image. Follows the official `LazySupervisedDataset` (LLaVA `preprocess_v1`, Bunny
    `preprocess_bunny*`), including its peculiarities:
    - `max_length` cuts text-only samples here, but image samples only in `expand_images`;
    - labels stop at the first round that is not one question and one answer; if the tokens counted up to it differ from
      the sample's and are fewer than `max_length`, every label is masked;
    - a tag inside an answer has the label IMAGE_TOKEN until `expand_images`.
    Unlike in Bunny's code, samples of a Llama-3 tokenizer without BOS are masked correctly (Bunny masks every label).
    """
    template = get_template(template)
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token; load it with vrx.data.tokenizers.load_tokenizer")
    if template.human_end is not None:
        return _tokenize_turns(conversation, tokenizer, template, has_image=has_image, max_length=max_length)
    text = render(conversation, template, has_image=has_image, add_generation_prompt=False)
    input_ids = tokenizers.encode(text, tokenizer, has_image=has_image)
    if not has_image:
        input_ids = input_ids[:max_length]
    labels = list(input_ids)

    # Splitting removes each round's end token. A BOS of the round encoded alone makes up for it; without one, add 1.
    has_bos = template.later_rounds_lose_one or tokenizers.adds_bos(tokenizer)
    end_token, prompt_extra = (0, 2) if has_bos else (1, 1)  # prompt_extra: BOS and the last space
    position = 1 if has_bos else 0
    labels[:position] = [IGNORE] * position
    answer_mark = f"{template.separator}{template.gpt}: "
    num_rounds = 0
    for round_text in text.split(template.end):
        parts = round_text.split(answer_mark)
        if len(parts) != 2:  # also the empty text after the last end token
            break
        round_ids = tokenizers.encode(round_text, tokenizer, has_image=has_image)
        prompt_ids = tokenizers.encode(parts[0] + answer_mark, tokenizer, has_image=has_image)
        round_length, prompt_length = len(round_ids) + end_token, len(prompt_ids) - prompt_extra
        if template.later_rounds_lose_one and num_rounds > 0 and not getattr(tokenizer, "legacy", False):
            round_length, prompt_length = round_length - 1, prompt_length - 1
        _ignore(labels, position, position + prompt_length)
        position += round_length
        num_rounds += 1
    _ignore(labels, position, len(labels))

    # If the padding token is the end token, the official count of non-padding tokens misses one per round.
    num_tokens = sum(token != tokenizer.pad_token_id for token in input_ids)
    num_counted = position
    if template.pad == "eos" and tokenizer.pad_token_id == tokenizer.eos_token_id:
        num_counted -= num_rounds
    if num_counted == num_tokens or (max_length is not None and num_counted >= max_length):
        return Encoded(input_ids, labels)
    return Encoded(input_ids, [IGNORE] * len(labels), mismatch=(num_counted, num_tokens))


def tokenize_caption(turns: Conversation, tokenizer: PreTrainedTokenizerBase, *, has_image: bool) -> Encoded:
    """Ids and labels of a caption, the answer of a conversation of two turns; IMAGE_TOKEN stands for its image.

    The caption and its end are learned. The question, an instruction such as "Describe the image.", is left out, and so
    is any conversation template: LLaVA's `plain` of stage 1 (`preprocess_plain`; Bunny's is the same).
    """
    tag = IMAGE_TAG if has_image else ""
    ids = tokenizers.encode(f"{tag}{turns[1]['value']}{CAPTION_END}", tokenizer, has_image=has_image)
    num_ignored = len(tokenizers.encode(tag, tokenizer, has_image=has_image))
    return Encoded(ids, [IGNORE] * num_ignored + ids[num_ignored:])


def _tokenize_turns(
    conversation: Conversation,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    has_image: bool,
    max_length: int | None,
) -> Encoded:
    """As `tokenize`, for a template whose turns begin and end in special tokens, so that each is encoded for itself."""
    text = render(conversation, template, has_image=has_image, add_generation_prompt=False)
    answer_mark, end = f"{template.gpt}{template.mark}", template.end + template.after_end
    input_ids: list[int] = []
    labels: list[int] = []

    def add(piece: str, *, learned: bool) -> None:
        ids = tokenizers.encode(piece, tokenizer, has_image=has_image)
        input_ids.extend(ids)
        labels.extend(ids if learned else [IGNORE] * len(ids))

    for number, part in enumerate(text.split(answer_mark)):
        if number == 0:
            add(part + answer_mark, learned=False)
            continue
        answer, found, question = part.partition(end)
        add(answer + template.end * bool(found), learned=True)
        is_last = not question
        add(template.after_end * bool(found) + question + ("" if is_last else answer_mark), learned=False)
    if not has_image:
        return Encoded(input_ids[:max_length], labels[:max_length])
    return Encoded(input_ids, labels)


def tokenize_prompt(
    conversation_or_question: Conversation | str,
    tokenizer: PreTrainedTokenizerBase,
    template: str | Template,
    *,
    has_image: bool,
) -> list[int]:
    """Ids to generate from, ending in "ASSISTANT:", with IMAGE_TOKEN for the image.

    A string is one question, used unchanged; with `has_image` and without a tag in it, "<image>\\n" is put before it,
    as in the official evaluation scripts. A conversation must end with a human turn.
    """
    if isinstance(conversation_or_question, str):
        needs_tag = has_image and IMAGE_TAG not in conversation_or_question
        question = f"{IMAGE_TAG}\n{conversation_or_question}" if needs_tag else conversation_or_question
        text = render([{"from": "human", "value": question}], template, has_image=False)
    else:
        text = render(conversation_or_question, template, has_image=has_image, add_generation_prompt=True)
    return tokenizers.encode(text, tokenizer, has_image=has_image)


def expand_images(
    input_ids: Sequence[int],
    labels: Sequence[int] | None,
    *,
    image_token_id: int,
    num_image_tokens: int,
    max_length: int | None = None,
) -> tuple[list[int], list[int]]:
    """Replace each IMAGE_TOKEN by `num_image_tokens` copies of `image_token_id`, then cut to `max_length`.

    Image positions have the label IGNORE and count towards `max_length`, as in the official model. labels: None for a
    prompt, all IGNORE. A cut inside or before an image leaves features without tokens; the official model drops these,
    transformers fails in the forward pass, so the caller has to drop them. Text that encodes to `image_token_id` itself
    (a NUL character in LLaVA's vocabulary) gets the next id, so that it cannot be taken for an image: the only
    difference from the official ids.
    """
    labels = [IGNORE] * len(input_ids) if labels is None else labels
    ids_out: list[int] = []
    labels_out: list[int] = []
    for token, label in zip(input_ids, labels, strict=True):
        is_image = token == IMAGE_TOKEN
        is_text_of_image_token = token == image_token_id
        ids_out += [image_token_id] * num_image_tokens if is_image else [token + is_text_of_image_token]
        labels_out += [IGNORE] * num_image_tokens if is_image else [label + (is_text_of_image_token and label == token)]
    return ids_out[:max_length], labels_out[:max_length]


def _ignore(labels: list[int], start: int, stop: int) -> None:
    # Slice bounds follow tensor slicing: clipped at the end, and a negative stop counts from the end.
    for index in range(*slice(start, stop).indices(len(labels))):
        labels[index] = IGNORE
