"""Conversation templates as Jinja, which transformers, vLLM and others render by themselves."""

from __future__ import annotations

import json

from vrx.data.instructions.chat_templates import IMAGE_TAG, Template, get_template

# The text of a turn: its pictures, a line break, its text; as `tokenize_prompt` in
# vrx/data/instructions/encoding.py. Where the text has tags, the pictures stand there.
CONTENT = """\
{%- macro content(message) -%}
  {%- set turn = namespace(text='', pictures=0) -%}
  {%- if message['content'] is string -%}
    {%- set turn.text = message['content'] -%}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'text' -%}
        {%- set turn.text = turn.text + part['text'] -%}
      {%- elif part['type'] in ('image', 'image_url') -%}
        {%- set turn.pictures = turn.pictures + 1 -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {%- if turn.pictures and TAG not in turn.text -%}
    {{- PICTURE * turn.pictures + '\\n' -}}
  {%- endif -%}
  {{- turn.text.replace(TAG, PICTURE) -}}
{%- endmacro -%}
"""

CONVERSATION = """\
{%- if messages and messages[0]['role'] == 'system' -%}
  {{- content(messages[0]) + SEPARATOR -}}
{%- else -%}
  {{- SYSTEM + SEPARATOR -}}
{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
  {%- set text = content(message) -%}
  {%- if message['role'] == 'user' -%}
    {{- HUMAN + (MARK + text + QUESTION_END if text else EMPTY_MARK) -}}
  {%- else -%}
    {{- GPT + (MARK + text + ANSWER_END if text else EMPTY_MARK) -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- GPT + EMPTY_MARK -}}
{%- endif -%}
"""


def jinja_template(template: str | Template, *, space_after_picture: bool = False) -> str:
    """The Jinja source of a conversation template, for messages of transformers.

    space_after_picture: for tokenizers that put a space before a text but not after a special token. vrx encodes the
    text behind a picture for itself, with that space, as the official code does.
    """
    template = get_template(template)
    values = {
        "TAG": IMAGE_TAG,
        "PICTURE": IMAGE_TAG + " " * space_after_picture,
        "SYSTEM": template.system,
        "SEPARATOR": template.separator,
        "HUMAN": template.human,
        "GPT": template.gpt,
        "MARK": template.mark,
        "EMPTY_MARK": template.mark.rstrip(" "),
        "QUESTION_END": template.question_end,
        "ANSWER_END": template.end + template.after_end,
    }
    settings = "".join(f"{{%- set {name} = {json.dumps(value)} -%}}\n" for name, value in values.items())
    return settings + CONTENT + CONVERSATION
