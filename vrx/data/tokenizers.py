"""Text to token ids as the official training stacks made them, under transformers 5.

Two kinds of tokenizers changed their ids between transformers 4.37/4.40 and 5.23; what brings the old ids
back is here and nowhere else. The classes are named, so no remote code can run.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from vrx.config.errors import UserError
from vrx.data.chat_templates import IMAGE_TAG, Template, get_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    folder_or_id: str | PathLike[str], template: str | Template, *, add_bos_token: bool | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with the end and padding tokens and the ids its template was trained with.

    `vrx.data.tokenizers.read_tokenizer` tells what differs from transformers' own loading.
    """
    template = get_template(template)
    return read_tokenizer(
        folder_or_id, reader=template.reader, end=template.end, pad=template.pad, add_bos_token=add_bos_token
    )


IMAGE_TOKEN = -200  # stands in the ids where an image goes, until `vrx.data.encoding.expand_images`


def read_tokenizer(
    folder_or_id: str | PathLike[str],
    *,
    reader: Literal["llama", "file"],
    end: str,
    pad: Literal["unk", "eos"],
    add_bos_token: bool | None = None,
) -> PreTrainedTokenizerBase:
    """A tokenizer with this end token and right padding; its ids, through `encode`, are the official ones.

    `llama`: the Llama class, equal to the slow `legacy=False` one of 4.37 that LLaVA trains with; a folder
    with only `tokenizer.model` needs sentencepiece. `file`: `tokenizer.json` as written, because the Llama
    class of 5.x drops Phi-3's "Prepend" normalizer. `add_bos_token` overrides what the folder's config says.
    """
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    tokenizer_class = LlamaTokenizer if reader == "llama" else PreTrainedTokenizerFast
    try:
        tokenizer = tokenizer_class.from_pretrained(folder_or_id, padding_side="right")
    except Exception as error:  # of several kinds, from transformers, tokenizers and sentencepiece
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder_or_id}: cannot be read as a tokenizer: {reason}") from error
    if end not in tokenizer.get_vocab():
        raise UserError(
            f"the tokenizer of {folder_or_id} has no token {end!r}, the end of an answer in this model.template"
        )
    tokenizer.eos_token = end  # Llama-3-Instruct's own is <|eot_id|>
    tokenizer.pad_token = tokenizer.unk_token if pad == "unk" else end
    if tokenizer.bos_token is None and adds_bos(tokenizer):  # a bare tokenizer.json does not name it
        tokenizer.bos_token = tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"][0])
    if add_bos_token is None:
        # 5.x ignores the config's key for a `tokenizer.json`; the Llama class of 4.40 obeyed it (Phi-3).
        config = get_tokenizer_config(folder_or_id)
        is_llama = str(config.get("tokenizer_class")).startswith("Llama")
        add_bos_token = config.get("add_bos_token") if is_llama else None
    if add_bos_token is not None and add_bos_token != adds_bos(tokenizer):
        _set_bos(tokenizer, add_bos_token)
    return tokenizer


def encode(text: str, tokenizer: PreTrainedTokenizerBase, *, has_image: bool) -> list[int]:
    """The ids of a text, never cut, BOS first if the tokenizer adds one.

    With `has_image` IMAGE_TOKEN stands for each tag; the pieces between are encoded one by one, so each may
    begin with a dummy space, and only the first keeps its BOS.
    """
    if not has_image:
        return _encode_piece(text, tokenizer)
    pieces = [_encode_piece(piece, tokenizer) for piece in text.split(IMAGE_TAG)]
    skip = 1 if pieces[0] and pieces[0][0] == tokenizer.bos_token_id else 0
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = [*ids, IMAGE_TOKEN, *piece[skip:]]
    return ids


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether every encoded text begins with a BOS."""
    return len(tokenizer("")["input_ids"]) > 0


def _set_bos(tokenizer: PreTrainedTokenizerBase, add: bool) -> None:
    from tokenizers.processors import TemplateProcessing

    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    backend: Any = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single=f"{bos} $A" if add else "$A", special_tokens=[(bos, bos_id)])


def _encode_piece(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    # 5.x puts no dummy space before a text that begins with a space; the slow class of 4.37 always did.
    # Such a text is " ASSISTANT: ..." after an image without a question.
    backend: Any = tokenizer.backend_tokenizer
    first_only = getattr(backend.pre_tokenizer, "prepend_scheme", None) == "first"
    if first_only and text.startswith((" ", "▁")):
        text = " " + text
    return list(tokenizer(text, verbose=False)["input_ids"])
