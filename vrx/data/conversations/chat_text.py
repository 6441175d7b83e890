"""The text of a conversation by a checkpoint's own chat template, and where the answers stand in it.

The places of the answers are found by rendering once more with a unique mark in the place of each. What lies between
the marks must be the same in both texts. This also works for templates that write a turn in another way when more
turns follow it, such as Qwen3.5's, which show the block of thoughts in the last turn alone: there, the rendered
beginning of a conversation is not the beginning of the rendered conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from vrx.config.errors import UserError

Message = Mapping[str, Any]  # {"role": "system" | "user" | "assistant", "content": [{"type": "text", "text": str}, …]}
ROLES = ("system", "user", "assistant")
# Variables that templates know: answers are trained and asked for without a block of thoughts before them
VARIABLES = {"enable_thinking": False}
LISTED = "'type': 'text'"  # in a text whose template writes a list of contents as Python does


@dataclass(frozen=True)
class RenderedChat:
    """The text of a conversation and the spans of its answers in it, as (start, end) in characters."""

    text: str
    answers: list[tuple[int, int]]


class ChatTemplate:
    """A chat template with the form in which it takes the content of each role: a list of parts, or a text."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.takes_text = {role for role in ROLES if not self._takes_list(role)}

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of messages; `UserError` for messages that the template refuses, such as a system turn."""
        plain = [{**message, "content": self._content(message)} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                plain,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **VARIABLES,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"messages: the model's chat template refuses them: {reason}") from None
        assert isinstance(text, str)
        return text

    def render_answers(self, messages: Sequence[Message]) -> RenderedChat:
        """The text of a conversation and the spans of its answers.

        Blanks around an answer may be left out by the template. `UserError` names the turn of an answer that the
        template writes in another way, and one that has no answer in the text.
        """
        text = self.render(messages)
        turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        marks = _marks(len(turns), text)
        marked = list(messages)
        for number, mark in zip(turns, marks, strict=True):
            marked[number] = {**messages[number], "content": [{"type": "text", "text": mark}]}
        rest = self.render(marked) if turns else text
        spans: list[tuple[int, int]] = []
        end = 0
        for number, mark in zip(turns, marks, strict=True):
            before, found, rest = rest.partition(mark)
            answer = answer_text(messages[number])
            if not found or not text.startswith(before, end):
                raise _rewritten(number, "the text before it depends on it" if found else "its place is not found")
            start = end + len(before)
            written = next((form for form in (answer, answer.strip()) if text.startswith(form, start)), None)
            if written is None:
                raise _rewritten(number, f"{answer[:40]!r} becomes {text[start : start + 40]!r}")
            end = start + len(written)
            spans.append((start, end))
            following = rest.partition(marks[len(spans)])[0] if len(spans) < len(marks) else rest
            if not text.startswith(following, end):
                trimmed = start + len(answer.strip())
                if not text.startswith(answer.strip() + following, start):
                    raise _rewritten(number, "the text after it depends on it")
                end, spans[-1] = trimmed, (start, trimmed)
        if text[end:] != rest:
            raise UserError("messages: the model's chat template writes the end of the conversation in another way")
        return RenderedChat(text, spans)

    def _content(self, message: Message) -> Any:
        parts = message["content"]
        if message["role"] in self.takes_text and all(part["type"] == "text" for part in parts):
            return "".join(part["text"] for part in parts)
        return parts

    def _takes_list(self, role: str) -> bool:
        self.takes_text: set[str] = set()
        turns = [_turn("user", "question"), _turn("assistant", "answer")]
        turns = [_turn("system", "instruction"), *turns] if role == "system" else turns
        self.takes_text = set(ROLES) - {role}
        try:
            text = self.render(turns)
        except UserError:
            return False
        return LISTED not in text


def answer_text(message: Message) -> str:
    """The text of a message's parts."""
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _turn(role: str, text: str) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _marks(count: int, text: str) -> list[str]:
    """Texts that do not occur in `text` and begin neither with a blank nor with each other."""
    salt = 0
    while f"Mark{salt}x" in text:
        salt += 1
    return [f"Mark{salt}x{number}Answer" for number in range(count)]


def _rewritten(number: int, reason: str) -> UserError:
    return UserError(f"messages[{number}]: the model's chat template rewrites this answer: {reason}")
