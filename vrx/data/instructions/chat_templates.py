"""Conversation templates: the text of a conversation, as `vrx.data.instructions.encoding` tokenizes and masks it.

Reproduces the official code, LLaVA c121f043 (`vicuna_v1`) and Bunny 08273acb (`bunny_llama3`, `bunny_phi3`), token for
token, oddities included, because the label masks decide what a run learns. `smollm2` is the chat template of SmolLM2's
tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vrx.config.errors import UserError

IMAGE_TAG = "<image>"
Turn = Mapping[str, str]
Conversation = Sequence[Turn]  # [{"from": "human" | "gpt", "value": str}, ...], LLaVA's JSON
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Template:
    """Text format of a model family's conversations, and the rules for masking labels.

    Rendered: system, separator, then per round `USER: ` question, separator, `ASSISTANT: ` answer, end. The
    end is a special token of the tokenizer; the next round follows it without a space.

    tokenizer_files: how `vrx.data.tokenizers.load_tokenizer` reads the tokenizer. later_rounds_lose_one: every round
    after the first counts one token less, because LLaVA's "▁USER" alone is one piece longer than "USER" after an end.
    mark: between a role and its text. human_end: after a question, where that is not the separator. after_end: between
    an answer's end and the next round, not learned; only templates with a human_end, whose turns are encoded each for
    itself, have it.
    """

    name: str
    end: str
    pad: Literal["unk", "eos"]
    tokenizer_files: Literal["llama", "tokenizer.json"]
    later_rounds_lose_one: bool = False
    system: str = SYSTEM
    human: str = "USER"
    gpt: str = "ASSISTANT"
    separator: str = " "
    mark: str = ": "
    human_end: str | None = None
    after_end: str = ""

    @property
    def question_end(self) -> str:
        """What ends a question."""
        return self.separator if self.human_end is None else self.human_end


TEMPLATES: dict[str, Template] = {  # `tiny` is that of the embedded LVLM
    template.name: template
    for template in (
        Template("vicuna_v1", end="</s>", pad="unk", tokenizer_files="llama", later_rounds_lose_one=True),
        Template("bunny_llama3", end="<|end_of_text|>", pad="eos", tokenizer_files="tokenizer.json"),
        Template("bunny_phi3", end="<|endoftext|>", pad="eos", tokenizer_files="tokenizer.json"),
        Template(
            "smollm2",
            end="<|im_end|>",
            pad="eos",
            tokenizer_files="tokenizer.json",
            system="<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>",
            human="<|im_start|>user",
            gpt="<|im_start|>assistant",
            separator="\n",
            mark="\n",
            human_end="<|im_end|>\n",
            after_end="\n",
        ),
        Template("tiny", end="<|end_of_text|>", pad="eos", tokenizer_files="tokenizer.json", system=""),
    )
}


def get_template(template: str | Template) -> Template:
    """The template of this name; a `Template` is returned unchanged."""
    if isinstance(template, Template):
        return template
    if template not in TEMPLATES:
        raise UserError(f"model.template={template}: valid are {', '.join(TEMPLATES)}")
    return TEMPLATES[template]


def render(
    conversation: Conversation,
    template: str | Template,
    *,
    has_image: bool = True,
    add_generation_prompt: bool | None = None,
) -> str:
    """The text of a conversation; one that ends with the human ends in the generation prompt, "ASSISTANT:".

    With `has_image`, the tags of a turn (an answer's too) are merged into one at its start, "<image>\\n"; without,
    "<image>" is plain text. With `add_generation_prompt=False`, as in training, a trailing question gets no generation
    prompt. A leading gpt turn is dropped; an empty turn is written as its role alone, without end token.
    """
    template = get_template(template)
    turns = _alternating(conversation)
    if add_generation_prompt is None:
        add_generation_prompt = bool(turns) and turns[-1]["from"] == "human"
    elif add_generation_prompt and (not turns or turns[-1]["from"] != "human"):
        raise ValueError("a generation prompt needs a human turn at the end: drop the last answer")
    text = template.system + template.separator
    for turn in turns:
        value = _move_tag_first(turn["value"]) if has_image else turn["value"]
        human = turn["from"] == "human"
        role = template.human if human else template.gpt
        ending = template.question_end if human else template.end + template.after_end
        text += f"{role}{template.mark}{value}{ending}" if value else f"{role}{template.mark.rstrip(' ')}"
    return text + f"{template.gpt}{template.mark.rstrip(' ')}" if add_generation_prompt else text


def _alternating(conversation: Conversation) -> list[Turn]:
    turns = list(conversation)
    if turns and turns[0]["from"] == "gpt":
        turns = turns[1:]
    for index, turn in enumerate(turns):
        if turn["from"] != ("human", "gpt")[index % 2]:
            raise UserError(f"turn {index} is from {turn['from']!r}: human and gpt must alternate")
    return turns


def _move_tag_first(value: str) -> str:
    if IMAGE_TAG not in value:
        return value
    return f"{IMAGE_TAG}\n{value.replace(IMAGE_TAG, '').strip()}".strip()
