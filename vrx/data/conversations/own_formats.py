"""Formats of models whose checkpoints bring no chat template, and what makes their processors obey one."""

from __future__ import annotations

from typing import Any

from transformers.processing_utils import ProcessorMixin

# The pictures, the question and a line break; then the answer and the end token. Its processor writes the same, but
# only around a question without its answer.
PALIGEMMA = """{% set pictures = namespace(number=0) -%}
{% for message in messages if message['content'] is not string -%}
{% for part in message['content'] if part['type'] == 'image' -%}
{% set pictures.number = pictures.number + 1 %}{{ '<image>' -}}
{% endfor -%}
{% if not loop.first and message['content'] | selectattr('type', 'equalto', 'image') | list -%}
{{ raise_exception('PaliGemma takes pictures with the first question alone') -}}
{% endif -%}
{% endfor -%}
{{ bos_token -}}
{% for message in messages -%}
{% if message['content'] is string %}{{ message['content'] }}{% else -%}
{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor -%}
{% endif %}{{ eos_token if message['role'] == 'assistant' else '\\n' -}}
{% endfor %}"""

TEMPLATES = {"paligemma": PALIGEMMA}  # by model_type


def _as_written(processor: ProcessorMixin, images: Any = None, text: Any = None, **settings: Any) -> Any:
    """The layout of any other processor: the text is what the chat template wrote."""
    return ProcessorMixin.prepare_inputs_layout(processor, images=images, text=text, **settings)


METHODS: dict[str, dict[str, Any]] = {"PaliGemmaProcessor": {"prepare_inputs_layout": _as_written}}  # by class
