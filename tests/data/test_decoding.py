"""Answers that were cut inside a character decode as SentencePiece, which LLaVA's code uses, decodes them."""

from __future__ import annotations

import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from support.official import GOLDEN

from vrx.data.tokenizers import decode_as_sentencepiece, load_tokenizer

FOLDER = GOLDEN / "llava_official" / "vicuna-tiny"
OURS = load_tokenizer(FOLDER, "vicuna_v1")
THEIRS = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))  # type: ignore[call-arg]


@settings(max_examples=200)
@given(text=st.text(alphabet="ab é图🙂\n<", min_size=1, max_size=8), first=st.integers(0, 3), last=st.integers(0, 12))
def test_a_cut_answer_decodes_as_sentencepiece_decodes_it(text: str, first: int, last: int):
    ids = THEIRS.encode(text)[first : last + 1]
    # a blank before the first token is lost to both, and answers are stripped
    assert decode_as_sentencepiece(ids, OURS).strip() == THEIRS.decode(ids).strip()


def test_whole_characters_of_a_cut_run_stay():
    ids = THEIRS.encode("🙂图")
    assert decode_as_sentencepiece(ids[:-1], OURS) == "🙂\ufffd\ufffd"
    assert OURS.decode(ids[:-1]).count("\ufffd") == 6  # what transformers makes of it


def test_special_tokens_are_left_out():
    ids = THEIRS.encode("ab图")
    assert decode_as_sentencepiece([1, *ids[:-1], 2], OURS) == "ab\ufffd\ufffd"
