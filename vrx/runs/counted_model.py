"""What a checkpoint of transformers' own class says of itself: kinds of its layers and sizes, counted without weights.

They are counted once, by a process of its own, as the driver imports no torch, and kept below the output root.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig, RunConfig
from vrx.runs.files import write_json
from vrx.runs.hub import cached_checkpoint
from vrx.runs.tuned_checkpoint import base_checkpoint

COUNTING = "vrx.models.native_counts"  # the module that counts, as a command
VERSION = b"2 "  # of what it prints


def counted(config: ModelConfig, cache: Path | None = None, *, read_only: bool = True) -> dict[str, Any] | None:
    """The counts of a model's checkpoint; None where its config.json is not on this machine.

    cache: folder of counts made before; read_only: write nothing to it.
    """
    folder = cached_checkpoint(base_checkpoint(str(config.lvlm)))
    if folder is None or not (folder / "config.json").is_file():
        return None
    settings = (folder / "config.json").read_bytes()
    key = hashlib.sha256(VERSION + config.architecture.encode() + settings).hexdigest()[:16]
    stored = cache / "architectures" / f"{key}.json" if cache is not None else None
    if stored is not None and stored.is_file():
        return json.loads(stored.read_text(encoding="utf-8"))
    counts = json.loads(_counts(str(folder), config.architecture, key))
    if stored is not None and not read_only:
        write_json(stored, counts)
    return counts


def layer_kinds(run: RunConfig, *, read_only: bool = True) -> list[str] | None:
    """The kind of every decoder layer, such as full_attention; None where it is not known.

    Of a model that is assembled from parts, no kinds are told apart.
    """
    if run.model.is_assembled:
        return None
    counts = counted(run.model, run.runtime.output_path / "data", read_only=read_only)
    if counts is not None and len(counts["kinds"]) != run.model.num_layers:
        depth = len(counts["kinds"])
        raise UserError(f"model.num_layers={run.model.num_layers}: {run.model.lvlm} has {depth} decoder layers")
    return None if counts is None else counts["kinds"]


@functools.cache
def _counts(folder: str, architecture: str, _: str) -> str:
    command = [sys.executable, "-m", COUNTING, folder, architecture]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason"])[-1]
        raise UserError(f"model.lvlm={folder}: its config.json is no {architecture}: {reason}")
    return result.stdout.strip().splitlines()[-1]
