"""Where a run lies: its directory, by the hash of its identity and a readable label."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from vrx.config.schema import RunConfig
from vrx.runs.files import digest
from vrx.runs.identity import Identity, finetune_identity, legacy_identity
from vrx.runs.layer_selection import select_layers, selector_label


def run_identity(run: RunConfig, data_digest: str) -> Identity:
    """What is trained by a run, and nothing else; see `vrx.runs.identity`."""
    return finetune_identity(run, list(select_layers(run)), data_digest)


def run_directory(run: RunConfig, run_identity: Identity, *, label: str) -> Path:
    """The directory of a run: the readable part is a label, the hash at the end is the identity.

    A directory with the same hash is the run's, whatever label and model name an earlier command gave it. So is one
    with the hash that the first version gave the run.
    """
    models, model = Path(run.runtime.output_root).absolute() / run.job.name, re.sub(r"[^\w.-]", "_", run.model.name)
    hashes = [digest(identity)[:8] for identity in (run_identity, legacy_identity(run_identity, run.model))]
    patterns = [f"{folder}/*_{short_hash}" for short_hash in hashes for folder in (glob.escape(model), "*")]
    found = (path for pattern in patterns for path in sorted(models.glob(pattern)))
    return next(found, models / model / f"{label}_{hashes[0]}")


def run_label(run: RunConfig) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    return f"{selector_label(run)}-{len(select_layers(run))}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"
