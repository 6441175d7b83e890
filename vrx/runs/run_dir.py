"""The directory of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vrx.config.schema import RunConfig
from vrx.runs.files import digest
from vrx.runs.identity import finetune_identity
from vrx.runs.layer_selection import select_layers, selector_label


def run_identity(run: RunConfig, data_digest: str) -> dict[str, Any]:
    """What is trained by a run, and nothing else; see `vrx/identity.py`."""
    return finetune_identity(run, list(select_layers(run)), data_digest)


def run_directory(run: RunConfig, run_identity: dict[str, Any], *, label: str) -> Path:
    """Where a run lies: the readable part is a label, the hash at the end is the identity.

    A run found under the hash is the run, whatever label an earlier command gave it.
    """
    short = digest(run_identity)[:8]
    folder = Path(run.runtime.output_root).absolute() / run.job.name / re.sub(r"[^\w.-]", "_", run.model.name)
    return next(iter(sorted(folder.glob(f"*_{short}"))), folder / f"{label}_{short}")


def run_label(run: RunConfig) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    return f"{selector_label(run)}-{len(select_layers(run))}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"
