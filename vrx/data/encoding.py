"""Conversations as token ids and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrx.data import tokenizers
from vrx.data.chat_templates import IMAGE_TAG, Conversation, Template, get_template, render
from vrx.data.tokenizers import IMAGE_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label of a position that is not learned


@dataclass(frozen=True)
class Encoded:
    """Ids and labels of one conversation, same length; labels are IGNORE where nothing is learned.

    `mismatch` is (tokens counted by rounds, tokens there are) if these differed, for which the official code
    masks the whole sample: it trains on nothing.
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
    """Ids and labels of one training sample; learned are the answers and their end tokens.

    The ids have IMAGE_TOKEN at each image. As the official `LazySupervisedDataset` (LLaVA `preprocess_v1`,
    Bunny `preprocess_bunny*`). What surprises: `max_length` cuts text-only samples here, image samples only
    in `expand_images`; the first round that is not one question and one answer ends the masking, and a token
    count that then differs from the sample's masks all of it, but is compared only below `max_length`. A tag
    inside an answer has the label IMAGE_TOKEN until `expand_images`. Unlike Bunny, a Llama-3 tokenizer that
    adds no BOS is masked right (there every sample was masked whole).
    """
    template = get_template(template)
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token; load it with vrx.data.tokenizers.load_tokenizer")
    text = render(conversation, template, has_image=has_image, add_generation_prompt=False)
    input_ids = tokenizers.encode(text, tokenizer, has_image=has_image)
    if not has_image:
        input_ids = input_ids[:max_length]
    labels = list(input_ids)

    # A round encoded alone has a BOS, which stands for the end token that splitting took away; else add one.
    has_bos = template.later_rounds_lose_one or tokenizers.adds_bos(tokenizer)
    end_token, prompt_extra = (0, 2) if has_bos else (1, 1)  # prompt_extra: BOS and the last space
    position = 1 if has_bos else 0
    labels[:position] = [IGNORE] * position
    answer_mark = f"{template.separator}{template.gpt}: "
    num_rounds = 0
    for round_text in text.split(template.end):
        parts = round_text.split(answer_mark)
        if len(parts) != 2:  # the empty text after the last end token, too
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

    # Where padding is the end token, the official count of "real" tokens misses one per round.
    num_tokens = sum(token != tokenizer.pad_token_id for token in input_ids)
    num_counted = position
    if template.pad == "eos" and tokenizer.pad_token_id == tokenizer.eos_token_id:
        num_counted -= num_rounds
    if num_counted == num_tokens or (max_length is not None and num_counted >= max_length):
        return Encoded(input_ids, labels)
    return Encoded(input_ids, [IGNORE] * len(labels), mismatch=(num_counted, num_tokens))


def tokenize_prompt(
    conversation_or_question: Conversation | str,
    tokenizer: PreTrainedTokenizerBase,
    template: str | Template,
    *,
    has_image: bool,
) -> list[int]:
    """Ids to generate from, ending in "ASSISTANT:", IMAGE_TOKEN where the image goes.

    A text is one question, taken as it is; with `has_image` and no tag in it, "<image>\\n" is put before it,
    as the official evaluation scripts do. A conversation must end with a human turn.
    """
    if isinstance(conversation_or_question, str):
        place_tag = has_image and IMAGE_TAG not in conversation_or_question
        question = f"{IMAGE_TAG}\n{conversation_or_question}" if place_tag else conversation_or_question
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
    keep_cut_images: bool = False,
) -> tuple[list[int], list[int]]:
    """Ids and labels with each IMAGE_TOKEN as `num_image_tokens` copies of `image_token_id`, then cut.

    Image positions have the label IGNORE and count towards `max_length`, as in the official model. A cut in
    or before an image would leave features without tokens: the official model drops these, transformers
    raises in the forward pass. So this raises ValueError first (leave the sample out, or raise `max_length`),
    unless `keep_cut_images`: then the caller drops the features. `labels=None` (a prompt) is all IGNORE. Where a text
    spells the image token out (of LLaVA it is what a NUL character becomes), its neighbour stands: the one difference
    from the official ids, since no text may take an image's place.
    """
    labels = [IGNORE] * len(input_ids) if labels is None else labels
    ids_out: list[int] = []
    labels_out: list[int] = []
    for token, label in zip(input_ids, labels, strict=True):
        is_image = token == IMAGE_TOKEN
        spelt = token == image_token_id
        ids_out += [image_token_id] * num_image_tokens if is_image else [token + spelt]
        labels_out += [IGNORE] * num_image_tokens if is_image else [label + (spelt and label == token)]
        if is_image and max_length is not None and len(ids_out) > max_length and not keep_cut_images:
            raise ValueError(
                f"max_length {max_length} cuts an image that ends at position {len(ids_out)}: "
                "raise max_length or leave the sample out"
            )
    return ids_out[:max_length], labels_out[:max_length]


def _ignore(labels: list[int], start: int, stop: int) -> None:
    # Slice bounds as a tensor has them: past the end is cut, a negative stop counts from the end.
    for index in range(*slice(start, stop).indices(len(labels))):
        labels[index] = IGNORE
