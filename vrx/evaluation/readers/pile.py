"""The Pile, for perplexity: JSON Lines of it, or NeelNanda/pile-10k."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vrx.evaluation.dataset_source import Source, read_lines


def rows(source: Source) -> Iterator[dict[str, Any]]:
    """Documents, with the name of their part of the Pile."""
    files = source.official("*.jsonl", "*.jsonl.gz")
    for number, item in enumerate(source.items(read_lines(files[0])) if files else source.hub()):
        text = item.text("text")
        told = {
            "id": str(number),
            "text": text,
            "question_type": str((item.get("meta") or {}).get("pile_set_name", "")),
        }
        yield {**told, "num_words": len(re.split(r"\s+", text)), "num_bytes": len(text.encode())}
