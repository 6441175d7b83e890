"""Text of models, data and files as it is safe to show on a terminal."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # parts of words in Persian, Hindi and other languages, and of emoji
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters, half surrogates, separators of lines


def visible(text: str, *, keep: str = "") -> str:
    """The text with what a terminal would act on written as an escape such as `\\x1b`, and so in one line.

    That are control characters, marks that reverse the direction of writing, line breaks other than those in `keep`,
    and what has no character at all.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign in keep or _is_seen(sign) else _escaped(sign) for sign in text)


def _is_seen(sign: str) -> bool:
    return sign in JOINERS or unicodedata.category(sign) not in UNSEEN


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
