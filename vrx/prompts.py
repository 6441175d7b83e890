"""Conversation templates: from a conversation to its text, its token ids and the mask of what is learned.

Token for token what the official code does: LLaVA c121f043 (`vicuna_v1`) and Bunny 08273acb (`bunny_llama3`,
`bunny_phi3`), oddities included, because the masks decide what a run learns. All ids are lists of ints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Literal

from vrx import vocabulary
from vrx.vocabulary import IMAGE_TAG, IMAGE_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label of a position that is not learned

Turn = Mapping[str, str]
Conversation = Sequence[Turn]  # [{"from": "human" | "gpt", "value": str}, ...], LLaVA's JSON

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Template:
    """How one family of models writes a conversation down, and which rule masks it.

    Rendered: system, separator, then per round `USER: ` question, separator, `ASSISTANT: ` answer, end. The
    end is a special token of the tokenizer; the next round follows it without a space.
    """

    name: str
    end: str
    pad: Literal["unk", "eos"]
    reader: Literal["llama", "file"]  # of the tokenizer's files, see `vrx.vocabulary.load`
    later_rounds_lose_one: bool = False  # LLaVA: "▁USER" alone is a piece longer than "USER" after an end
    system: str = SYSTEM
    human: str = "USER"
    gpt: str = "ASSISTANT"
    separator: str = " "


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template("vicuna_v1", end="</s>", pad="unk", reader="llama", later_rounds_lose_one=True),
        Template("bunny_llama3", end="<|end_of_text|>", pad="eos", reader="file"),
        Template("bunny_phi3", end="<|endoftext|>", pad="eos", reader="file"),
        Template("tiny", end="<|end_of_text|>", pad="eos", reader="file", system=""),  # of the embedded LVLM
    )
}


@dataclass(frozen=True)
class Encoded:
    """Ids and labels of one conversation, same length; labels are IGNORE where nothing is learned.

    `mismatch` is (tokens counted by rounds, tokens there are) if these differed, for which the official code
    masks the whole sample: it trains on nothing.
    """

    input_ids: list[int]
    labels: list[int]
    mismatch: tuple[int, int] | None = None


def get_template(template: str | Template) -> Template:
    """The template of this name (a `Template` is handed back as it is)."""
    if isinstance(template, Template):
        return template
    if template not in TEMPLATES:
        raise ValueError(f"no prompt template {template!r}; there are: {', '.join(TEMPLATES)}")
    return TEMPLATES[template]


def load_tokenizer(
    folder_or_id: str | PathLike[str], template: str | Template, *, add_bos_token: bool | None = None
) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model, with the end and padding tokens and the ids its template was trained with.

    `vrx.vocabulary.load` tells what differs from transformers' own loading.
    """
    template = get_template(template)
    return vocabulary.load(
        folder_or_id, reader=template.reader, end=template.end, pad=template.pad, add_bos_token=add_bos_token
    )


def render(
    conversation: Conversation,
    template: str | Template,
    *,
    has_image: bool = True,
    add_generation_prompt: bool | None = None,
) -> str:
    """The text of a conversation; one that ends with the human ends in the generation prompt, "ASSISTANT:".

    With `has_image` all tags of a turn (an answer's too) become one at its front, "<image>\\n"; without,
    "<image>" is plain text. `add_generation_prompt=False` leaves a trailing question as the training code
    does. A leading gpt turn is dropped; an empty turn is written as its bare role, without end token.
    """
    template = get_template(template)
    turns = _alternating(conversation)
    if add_generation_prompt is None:
        add_generation_prompt = bool(turns) and turns[-1]["from"] == "human"
    elif add_generation_prompt and (not turns or turns[-1]["from"] != "human"):
        raise ValueError("a generation prompt needs a human turn at the end: drop the last answer")
    text = template.system + template.separator
    for turn in turns:
        value = _tag_first(turn["value"]) if has_image else turn["value"]
        human = turn["from"] == "human"
        role, ending = (template.human, template.separator) if human else (template.gpt, template.end)
        text += f"{role}: {value}{ending}" if value else f"{role}:"
    return text + f"{template.gpt}:" if add_generation_prompt else text


def tokenize(
    conversation: Conversation,
    tokenizer: "PreTrainedTokenizerBase",
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
        raise ValueError("the tokenizer has no padding token; load it with vrx.prompts.load_tokenizer")
    text = render(conversation, template, has_image=has_image, add_generation_prompt=False)
    input_ids = vocabulary.encode(text, tokenizer, has_image=has_image)
    if not has_image:
        input_ids = input_ids[:max_length]
    labels = list(input_ids)

    # A round encoded alone has a BOS, which stands for the end token that splitting took away; else add one.
    has_bos = template.later_rounds_lose_one or vocabulary.adds_bos(tokenizer)
    end_token, prompt_extra = (0, 2) if has_bos else (1, 1)  # prompt_extra: BOS and the last space
    position = 1 if has_bos else 0
    labels[:position] = [IGNORE] * position
    answer_mark = f"{template.separator}{template.gpt}: "
    num_rounds = 0
    for round_text in text.split(template.end):
        parts = round_text.split(answer_mark)
        if len(parts) != 2:  # the empty text after the last end token, too
            break
        round_ids = vocabulary.encode(round_text, tokenizer, has_image=has_image)
        prompt_ids = vocabulary.encode(parts[0] + answer_mark, tokenizer, has_image=has_image)
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
    tokenizer: "PreTrainedTokenizerBase",
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
    return vocabulary.encode(text, tokenizer, has_image=has_image)


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


def _alternating(conversation: Conversation) -> list[Turn]:
    turns = list(conversation)
    if turns and turns[0]["from"] == "gpt":
        turns = turns[1:]
    for index, turn in enumerate(turns):
        if turn["from"] != ("human", "gpt")[index % 2]:
            raise ValueError(f"turn {index} is from {turn['from']!r}: human and gpt must alternate")
    return turns


def _tag_first(value: str) -> str:
    if IMAGE_TAG not in value:
        return value
    return f"{IMAGE_TAG}\n{value.replace(IMAGE_TAG, '').strip()}".strip()


def _ignore(labels: list[int], start: int, stop: int) -> None:
    # Slice bounds as a tensor has them: past the end is cut, a negative stop counts from the end.
    for index in range(*slice(start, stop).indices(len(labels))):
        labels[index] = IGNORE
