"""Where a run lies: its directory, by the hash of its identity and a readable label."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from vrx.config.paths import as_file_name, below
from vrx.config.schema import RunConfig
from vrx.runs.files import digest
from vrx.runs.identity import Identity, finetune_identity, legacy_identity, pretrain_identity
from vrx.runs.layer_selection import selector_label
from vrx.runs.results import has_answers, is_copy


def locate_finetune(run: RunConfig, layers: Sequence[int], data_digest: str) -> tuple[Path, Identity]:
    """Directory and identity of a fine-tune of these layers on the data with this digest."""
    identity = finetune_identity(run, list(layers), data_digest)
    return run_directory(run, identity, label=finetune_label(run, len(layers))), identity


def locate_pretrain(run: RunConfig, data_digest: str) -> tuple[Path, Identity]:
    """Directory and identity of a projector's pre-training on the captions with this digest."""
    identity = pretrain_identity(run, data_digest)
    return run_directory(run, identity, label=f"{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"), identity


def run_directory(run: RunConfig, identity: Identity, *, label: str) -> Path:
    """The directory of a run: the readable part is a label, the hash at the end is the identity.

    A directory with the same hash is the run's, whatever label and model name an earlier command gave it. So is one
    with the hash that the first version gave the run. A copy in `runtime.results` is found last, and only if it has
    answers to all benchmarks of the run.
    """
    models, model = below(run.runtime.output_path, run.job.name), as_file_name(run.model.name)
    hashes = [digest(value)[:8] for value in (identity, legacy_identity(identity, run.model))]
    patterns = [f"{folder}/*_{short_hash}" for short_hash in hashes for folder in (glob.escape(model), "*")]
    existing = [path for pattern in patterns for path in sorted(models.glob(pattern))]
    for folder in run.runtime.results_paths if not existing else ():
        copies = [path for pattern in patterns for path in sorted((folder / run.job.name).glob(pattern))]
        existing += [path for path in copies if is_copy(path) and has_answers(path, list(run.benchmark))]
    return next(iter(existing), models / model / f"{as_file_name(label)}_{hashes[0]}")


def finetune_label(run: RunConfig, num_layers: int) -> str:
    """The readable part of a fine-tune's directory: sparse_uniform-8_100pct_seed0."""
    return f"{selector_label(run)}-{num_layers}_{100 * run.data_fraction.fraction:g}pct_seed{run.seed}"
