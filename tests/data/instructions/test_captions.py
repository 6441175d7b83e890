"""Captions as token ids and labels, by the tokenizers of the three model families."""

from __future__ import annotations

import pytest
from support.official import FAMILIES, model_config

from vrx.data.instructions.encoding import CAPTION_END, IGNORE, tokenize_caption
from vrx.data.tokenizers import IMAGE_TOKEN, adds_bos
from vrx.models import loading

CAPTIONS = ("a dog on a lawn", "  two cups, one of them broken ", "")
QUESTIONS = ("<image>\nWhat is this?", "Describe the picture.\n<image>")


@pytest.mark.parametrize("caption", CAPTIONS)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_image_then_the_caption_which_alone_is_learned(family: str, question: str, caption: str):
    """As LLaVA's `preprocess_plain`: BOS where the tokenizer adds one, the image, the caption as it is, a line end."""
    tokenizer = loading.load_model_tokenizer(model_config(family, None))
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": caption}]
    encoded = tokenize_caption(turns, tokenizer, has_image=True)
    start = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
    assert encoded.input_ids[: len(start) + 1] == [*start, IMAGE_TOKEN]
    learned = encoded.input_ids[len(start) + 1 :]
    assert encoded.labels == [IGNORE] * (len(start) + 1) + learned
    assert tokenizer.decode(learned).strip() == caption.strip() and tokenizer.decode(learned[-1:]).endswith("\n")
    assert tokenizer.decode(learned).endswith(CAPTION_END)
