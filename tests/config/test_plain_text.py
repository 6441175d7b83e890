"""Text of models and data on a terminal."""

from __future__ import annotations

import pytest

from vrx.config.plain_text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\nc\td\x00\x7f\x9b31m", r"a\rb\nc\td\x00\x7f\x9b31m"),
        ("\u202egnp.exe \u2066\u200f", r"\u202egnp.exe \u2066\u200f"),
        ("a\u2028b\ud800\ufeff", r"a\u2028b\ud800\ufeff"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_out(text: str, shown: str):
    assert visible(text) == shown
    assert visible(shown) == shown  # what is plain stays


@pytest.mark.parametrize(
    "text", ["", "100 % \\ <b>", "שלום عربي 日本語 café\u0301", "می\u200cخواهم", "👩\u200d🔬", "a\u00a0b\u3000c"]
)
def test_every_language_stays_readable(text: str):
    assert visible(text) == text


def test_line_breaks_stay_where_they_are_wanted():
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
