"""LLaVA's order of an epoch: global batches of one modality, their micro-batches about equally long.

As LLaVA's trainer does it with `group_by_modality_length` on; from the same random numbers comes the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def modality_grouped_order(
    lengths: Sequence[int], *, batch_size: int, num_chunks: int, generator: torch.Generator | None = None
) -> list[int]:
    """The numbers of all samples, each once: global batches of `batch_size`, each of `num_chunks` micro-batches.

    A sample's length is in words, negative where it has no image. Each modality's last, perhaps smaller, batch comes
    at the end of the epoch, the two mixed.
    """
    modalities = [[row for row, length in enumerate(lengths) if (length > 0) == image] for image in (True, False)]
    if not all(modalities):
        return [
            row
            for batch in _batches([*modalities[0], *modalities[1]], lengths, batch_size, num_chunks, generator)
            for row in batch
        ]
    whole, rest = [], []
    for rows in modalities:
        *before, last = _batches(rows, lengths, batch_size, num_chunks, generator)
        whole += before
        rest += last
    order = torch.randperm(len(whole), generator=generator).tolist()
    return [row for number in order for row in whole[number]] + sorted(rest)


def _batches(
    rows: list[int], lengths: Sequence[int], batch_size: int, num_chunks: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Rows at random in batches, each batch dealt to its micro-batches from the longest row on."""
    shuffled = [rows[place] for place in torch.randperm(len(rows), generator=generator).tolist()]
    found = []
    for start in range(0, len(rows), batch_size):
        batch = sorted(shuffled[start : start + batch_size], key=lambda row: abs(lengths[row]), reverse=True)
        found.append([row for chunk in _dealt(batch, lengths, num_chunks) for row in chunk])
    return found


def _dealt(rows: list[int], lengths: Sequence[int], num_chunks: int) -> list[list[int]]:
    """Chunks of as many rows each, every row given to the chunk with the fewest words that has room."""
    if len(rows) % num_chunks:
        return [rows[first::num_chunks] for first in range(num_chunks)]
    chunks: list[list[int]] = [[] for _ in range(num_chunks)]
    words = [0] * num_chunks
    open_chunks = list(range(num_chunks))
    for row in rows:
        chunk = min(open_chunks, key=words.__getitem__)
        chunks[chunk].append(row)
        words[chunk] += abs(lengths[row])
        if len(chunks[chunk]) == len(rows) // num_chunks:
            open_chunks.remove(chunk)
    return chunks
