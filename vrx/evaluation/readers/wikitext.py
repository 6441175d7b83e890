"""WikiText, for perplexity: the official `wiki.test.raw`, or EleutherAI/wikitext_document_level."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vrx.evaluation.dataset_files import read_text
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import DocumentRow

HEADING = re.compile(r"^ = [^=].*[^=] = $")
AROUND = {"@-@": "-", "@,@": ",", "@.@": "."}  # marks that WikiText set apart inside words and numbers
BEFORE = ":;.!?,"  # marks with a space before them
PAIRS = (
    (r"\(", r"[^)]*?", r"\)"),
    (r"\[", r"[^\]]*?", r"\]"),
    ("{", "[^}]*?", "}"),
    ('"', '[^"]*?', '"'),
    ("'", "[^']*?", "'"),
)


def rows(source: Source) -> Iterator[DocumentRow]:
    """Pages: read as plain text again, their words and bytes counted as WikiText wrote them (lm-eval)."""
    files = source.find_files("wiki.*.raw", "*.tokens", "*.txt", "*.txt.gz")
    pages = _pages(read_text(files[0])) if files else (item.text("page") for item in source.hub_items())
    for number, page in enumerate(pages):
        words = len(re.split(r"\s+", page))
        yield {"id": str(number), "text": plain(page), "num_words": words, "num_bytes": len(page.encode())}


def _pages(text: str) -> Iterator[str]:
    """A page begins at a heading of the first rank."""
    page: list[str] = []
    for line in text.splitlines(keepends=True):
        if HEADING.match(line.rstrip("\n")) and any(part.strip() for part in page):
            yield "".join(page)
            page = []
        page.append(line)
    if any(part.strip() for part in page):
        yield "".join(page)


def plain(text: str) -> str:
    """WikiText's tokens as text again: the marks it set apart go back to their words (lm-eval's detokenizer)."""
    text = text.replace("s '", "s'")
    for mark, put in AROUND.items():
        text = text.replace(f" {mark} ", put)
    for mark in BEFORE:
        text = text.replace(f" {mark} ", f"{mark} ")
    for opening, inner, closing in PAIRS:
        text = re.sub(rf"({opening})\s*({inner})\s*({closing})", r"\1\2\3", text)
    for rank in (4, 3, 2):
        text = text.replace(" ".join("=" * rank), "=" * rank)
    text = text.replace(" ° ", "°").replace(" \n", "\n").replace("\n ", "\n")
    return text.replace(" N ", " 1 ").replace(" 's", "'s")
