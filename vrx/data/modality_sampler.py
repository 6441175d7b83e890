"""LLaVA's order of an epoch: global batches of one modality, with micro-batches of about equal length.

Follows LLaVA's trainer with `group_by_modality_length`; the same random numbers give the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def modality_grouped_order(
    lengths: Sequence[int], *, batch_size: int, num_chunks: int, generator: torch.Generator | None = None
) -> list[int]:
    """Every sample index once, in global batches of `batch_size`, each of `num_chunks` micro-batches.

    lengths: in words, negative for a sample without an image. The last batch of either modality, which may be smaller,
    goes to the end of the epoch, the two mixed.
    """
    modalities = [[row for row, length in enumerate(lengths) if (length > 0) == image] for image in (True, False)]
    if not all(modalities):
        return [
            row
            for batch in _batches([*modalities[0], *modalities[1]], lengths, batch_size, num_chunks, generator)
            for row in batch
        ]
    full_batches, rest = [], []
    for rows in modalities:
        *full, last = _batches(rows, lengths, batch_size, num_chunks, generator)
        full_batches += full
        rest += last
    order = torch.randperm(len(full_batches), generator=generator).tolist()
    return [row for number in order for row in full_batches[number]] + sorted(rest)


def _batches(
    rows: list[int], lengths: Sequence[int], batch_size: int, num_chunks: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Random batches of rows, each dealt to its micro-batches from the longest row to the shortest."""
    shuffled = [rows[index] for index in torch.randperm(len(rows), generator=generator).tolist()]
    batches = []
    for start in range(0, len(rows), batch_size):
        batch = sorted(shuffled[start : start + batch_size], key=lambda row: abs(lengths[row]), reverse=True)
        batches.append([row for chunk in _deal(batch, lengths, num_chunks) for row in chunk])
    return batches


def _deal(rows: list[int], lengths: Sequence[int], num_chunks: int) -> list[list[int]]:
    """Chunks of equal size; each row goes to the chunk with the fewest words among those with room."""
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
