"""The Pile, for perplexity: JSON Lines of it, or NeelNanda/pile-10k."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vrx.evaluation.dataset_files import read_json_lines
from vrx.evaluation.dataset_source import Source
from vrx.evaluation.question_rows import DocumentRow


def rows(source: Source) -> Iterator[DocumentRow]:
    """Documents with the name of their part of the Pile.

    Words are counted as lm-eval counts them, split at white space.
    """
    files = source.find_files("*.jsonl", "*.jsonl.gz")
    for number, item in enumerate(source.items(read_json_lines(files[0])) if files else source.hub_items()):
        text = item.text("text")
        yield {
            "id": str(number),
            "text": text,
            "question_type": item.optional_item("meta").optional_text("pile_set_name") or "",
            "num_words": len(re.split(r"\s+", text)),
            "num_bytes": len(text.encode()),
        }
