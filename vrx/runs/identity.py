"""What makes a run the run it is: the weights it starts from, and how it is trained."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig, RunConfig


def weights_fingerprint(config: ModelConfig) -> dict[str, str]:
    """What tells one set of weights from another, cheaply: of a local folder the names and sizes of the files and the
    first MiB of each, of a hub id the id."""
    found = {}
    for part in ("backbone", "vision_tower", "projector", *(("lvlm",) if config.lvlm else ())):
        folder = Path(resolve_path(getattr(config, part)))
        if not folder.is_dir():
            found[part] = getattr(config, part)
            continue
        told = hashlib.sha256()
        adapter = folder / "adapter"  # of a finished run
        for file in sorted((adapter if adapter.is_dir() else folder).iterdir()):
            if file.suffix in (".safetensors", ".bin", ".json"):
                with file.open("rb") as stream:
                    told.update(f"{file.name} {file.stat().st_size} ".encode() + stream.read(1 << 20))
        found[part] = told.hexdigest()[:16]
    return found


def base_identity(run: RunConfig) -> dict[str, Any]:
    """The identity of an LVLM that was not tuned."""
    return {"model": _given(run.model), "weights": weights_fingerprint(run.model)}


def finetune_identity(run: RunConfig, layers: list[int], data_digest: str) -> dict[str, Any]:
    """What is trained, and nothing else: not where it runs, not what is measured on it, not the selector's name.

    A field that is null is no part of it, so that a new option leaves the runs made before it what they are.
    """
    return {
        **base_identity(run),
        "layers": layers,
        "data": {
            "sha256": data_digest,
            "fraction": run.data_fraction.fraction,
            "on_bad_image": run.instructions.on_bad_image,
        },
        "lora": _given(run.lora),
        "train": _given(run.train),
        "engine": _given(run.engine),
        "seed": run.seed,
    }


def _given(part: Any) -> dict[str, Any]:
    """The fields of a configuration that have a value."""
    return {key: value for key, value in dataclasses.asdict(part).items() if value is not None}
