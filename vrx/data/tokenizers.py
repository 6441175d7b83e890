"""Tokenizers that give the token ids of the official training code under transformers 5.

Two kinds of tokenizers changed their ids between transformers 4.37/4.40 and 5.23; only this module restores the old
ids. Tokenizer classes are fixed, so no remote code can run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrx.config.errors import UserError
from vrx.data.instructions.chat_templates import IMAGE_TAG, Template, get_template
from vrx.runs.content_digest import TOKENIZER_FILES
from vrx.runs.files import read_json_object, refuse_pointer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
IMAGE_TOKEN = -200  # stands for an image in the ids until `vrx.data.instructions.encoding.expand_images`


def load_tokenizer(folder_or_id: str | PathLike[str], template: str | Template) -> PreTrainedTokenizerBase:
    """A tokenizer with right padding, the template's end and padding tokens, and through `encode` the official ids.

    `tokenizer_files` of the template: `llama` is the Llama class, equal to the slow `legacy=False` one of 4.37 that
    LLaVA trains with; a folder with only `tokenizer.model` needs sentencepiece. `tokenizer.json` is that file as
    written, because the Llama class of 5.x drops Phi-3's "Prepend" normalizer. `UserError` for unreadable files and for
    a vocabulary without the end token.
    """
    template = get_template(template)
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    _require_readable(Path(folder_or_id))
    tokenizer_class = LlamaTokenizer if template.tokenizer_files == "llama" else PreTrainedTokenizerFast
    try:
        tokenizer = tokenizer_class.from_pretrained(folder_or_id, padding_side="right")
        tokenizer.decode(tokenizer("a b")["input_ids"])  # some settings of another form fail only here
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder_or_id}: cannot be read as a tokenizer: {reason}") from error
    if template.end not in tokenizer.get_vocab():
        raise UserError(
            f"the tokenizer of {folder_or_id} has no token {template.end!r}, which ends an answer in "
            f"model.template={template.name}"
        )
    tokenizer.eos_token = template.end  # Llama-3-Instruct's own is <|eot_id|>
    tokenizer.pad_token = tokenizer.unk_token if template.pad == "unk" else template.end
    if tokenizer.bos_token is None and adds_bos(tokenizer):  # a tokenizer.json without a config does not name it
        tokenizer.bos_token = tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"][0])
    # 5.x ignores the config's key for a `tokenizer.json`; the Llama class of 4.40 obeyed it (Phi-3).
    config = get_tokenizer_config(folder_or_id)
    is_llama = str(config.get("tokenizer_class")).startswith("Llama")
    add_bos_token = config.get("add_bos_token") if is_llama else None
    if add_bos_token is not None and add_bos_token != adds_bos(tokenizer):
        _set_bos(tokenizer, add_bos_token)
    return tokenizer


def _require_readable(folder: Path) -> None:
    """Refuse files of a tokenizer that are pointers of Git LFS, or not JSON: `UserError` names the file."""
    for path in (folder / name for name in TOKENIZER_FILES):
        if path.is_file():
            refuse_pointer(path)
            if path.suffix == ".json":
                read_json_object(path)


def encode(text: str, tokenizer: PreTrainedTokenizerBase, *, has_image: bool) -> list[int]:
    """The ids of a text, never cut; BOS comes first if the tokenizer adds one.

    With `has_image`, IMAGE_TOKEN replaces each tag. The pieces between tags are encoded separately, so each may begin
    with a dummy space, and only the first keeps its BOS.
    """
    if not has_image:
        return _encode_piece(text, tokenizer)
    pieces = [_encode_piece(piece, tokenizer) for piece in text.split(IMAGE_TAG)]
    begins_with_bos = bool(pieces[0]) and pieces[0][0] == tokenizer.bos_token_id
    skip = 1 if begins_with_bos and adds_bos(tokenizer) else 0  # ChatML's texts begin with it by themselves
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = [*ids, IMAGE_TOKEN, *piece[skip:]]
    return ids


def decode_as_sentencepiece(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of some ids without special tokens, as SentencePiece decodes them.

    It writes a character that falls into bytes as tokens such as <0xE5>. Of a run of these in which a character was
    cut, transformers 5 takes every byte for U+FFFD, SentencePiece only those that are part of no character.
    """
    special = set(tokenizer.all_special_ids)
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens([each for each in ids if each not in special])]
    whole = _without_cut_characters(tokens)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if whole == tokens or backend is None or backend.decoder is None:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))
    return str(backend.decoder.decode(whole))


def _without_cut_characters(tokens: Sequence[str]) -> list[str]:
    """The tokens with U+FFFD in place of each byte that is part of no character."""
    whole, place = list(tokens), 0
    while place < len(tokens):
        run = [BYTE_TOKEN.fullmatch(token) for token in tokens[place : place + 4]]
        values = bytes(int(match[1], 16) for match in itertools.takewhile(bool, run) if match)
        length = next((n for n in range(1, len(values) + 1) if _is_character(values[:n])), 0)
        if values and not length:
            whole[place] = "\ufffd"
        place += max(1, length)
    return whole


def _is_character(encoded: bytes) -> bool:
    try:
        return len(encoded.decode()) == 1
    except UnicodeDecodeError:
        return False


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether every encoded text begins with a BOS."""
    return len(tokenizer("")["input_ids"]) > 0


def prepend_scheme(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Where the tokenizer puts a space before a text: `first`, not after special tokens; None for other tokenizers."""
    backend: Any = tokenizer.backend_tokenizer
    return getattr(backend.pre_tokenizer, "prepend_scheme", None)


def _set_bos(tokenizer: PreTrainedTokenizerBase, add: bool) -> None:
    from tokenizers.processors import TemplateProcessing

    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    backend: Any = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single=f"{bos} $A" if add else "$A", special_tokens=[(bos, bos_id)])


def _encode_piece(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    # 5.x adds no dummy space before a text that begins with a space; the slow class of 4.37 always did.
    # An example is " ASSISTANT: ..." after an image without a question.
    if prepend_scheme(tokenizer) == "first" and text.startswith((" ", "▁")):
        text = " " + text
    return list(tokenizer(text, verbose=False)["input_ids"])
