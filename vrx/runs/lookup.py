"""Where a run lies: its directory, by the hash of its identity and a readable label."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vrx.config.schema import RunConfig
from vrx.runs.files import digest
from vrx.runs.identity import finetune_identity
from vrx.runs.layer_selection import select_layers, selector_label


def run_identity(run: RunConfig, data_digest: str) -> dict[str, Any]:
    """What is trained by a run, and nothing else; see `vrx/runs/identity.py`."""
    return finetune_identity(run, list(select_layers(run)), data_digest)


def run_directory(run: RunConfig, run_identity: dict[str, Any], *, label: str) -> Path:
    """The directory of a run: the readable part is a label, the hash at the end is the identity.

    A directory with the same hash is the run's, whatever label an earlier command gave it.
    """
    short_hash = digest(run_identity)[:8]
    folder = Path(run.runtime.output_root).absolute() / run.job.name / re.sub(r"[^\w.-]", "_", run.model.name)
    return next(iter(sorted(folder.glob(f"*_{short_hash}"))), folder / f"{label}_{short_hash}")


def run_label(run: RunConfig) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    return f"{selector_label(run)}-{len(select_layers(run))}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"
