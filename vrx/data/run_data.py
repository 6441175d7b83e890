"""The instruction data of a run: LLaVA's table for models that are assembled from parts, else a mixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vrx.config.schema import RunConfig
from vrx.data.conversations import conversation_table
from vrx.data.conversations.conversation_mixture import MixedRows
from vrx.data.instructions import instruction_dataset


def digest(run: RunConfig, cache: Path | None = None, *, read_only: bool = False) -> str:
    """What represents the data in a run's identity. cache: folder for digests of files; read_only: write nothing."""
    if run.model.is_assembled:
        return instruction_dataset.data_digest(run.instructions, cache, read_only=read_only)
    return conversation_table.mixture_digest(run.instructions, cache, read_only=read_only)


def build(run: RunConfig, cache: Path, *, digest: str, on_bad_image: str | None = None) -> Path:
    """Validate the data and convert them, once; gives the folder that `open_rows` takes.

    on_bad_image: instead of `instructions.on_bad_image`.
    """
    config = dataclasses.replace(run.instructions, on_bad_image=on_bad_image or run.instructions.on_bad_image)
    if run.model.is_assembled:
        return instruction_dataset.build_table(config, cache, digest=digest)
    return conversation_table.build_mixture(config, cache, digest=digest)


def open_rows(run: RunConfig, folder: Path) -> tuple[Sequence[Any], np.ndarray]:
    """The rows of a run's data and their lengths in words, (rows,), negative for a row without a picture."""
    if run.model.is_assembled:
        rows = instruction_dataset.open_table(folder)
        return rows, instruction_dataset.word_counts(rows)  # type: ignore[return-value]
    mixed = MixedRows(folder)
    return mixed, mixed.word_counts()
