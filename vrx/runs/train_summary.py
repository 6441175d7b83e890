"""`train.json`: what the training of a run took and came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.files import read_json, write_json
from vrx.runs.provenance import Provenance
from vrx.runs.typed_json import InvalidField, from_json, to_json

RENAMED = {
    "operations": "flops",
    "operations_per_second": "flops_per_second",
    "share_of_ceiling": "mfu",
    "how": "execution",
}
RENAMED_SWITCHES = {"skip_tower": "skip_vision_tower"}
RENAMED_MODES = {"all": "full"}  # of activation checkpointing


@dataclass
class TrainSummary:
    """The cost and outcome of a training; a field is None where the version that trained did not measure it.

    `provenance` is that of the training, `execution` names the engine's switches that were on.
    """

    steps: int | None = None
    seconds: float | None = None  # summed over the steps, so an interruption counts no step twice
    gpu_hours: float | None = None  # 0 without a GPU
    tokens_per_second: float | None = None
    samples_per_second: float | None = None
    peak_memory_gb: float | None = None
    trainable_parameters: int | None = None
    final_loss: float | None = None
    flops: float | None = None  # model FLOPs of all steps: without padding and recomputation
    flops_per_second: float | None = None
    peak_flops_per_second: float | None = None  # measured matmul throughput of all devices together
    mfu: float | None = None  # model FLOPs utilization: flops_per_second / peak_flops_per_second
    seconds_waiting_for_data: float | None = None
    bad_images: list[str] | None = None
    cut_images: list[str] | None = None
    masked_samples: list[str] | None = None  # samples whose labels are all masked, from which nothing is learned
    execution: dict[str, Any] | None = None
    result: dict[str, str] | None = None  # sha256 of the files in the trained adapter or projector, by name
    provenance: Provenance | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON object; fields that are None are left out."""
        return to_json(self)

    def write(self, path: Path) -> None:
        """Write `train.json`."""
        write_json(path, self.to_json())


def parse_train_summary(value: Any, key: str = "train") -> TrainSummary:
    """A training's summary from JSON of this version or an older one; `InvalidField` names the dotted key."""
    return from_json(TrainSummary, migrate_train_summary(value), key)


def read_train_summary(path: Path) -> TrainSummary:
    """Read `train.json`; an invalid one is a `UserError` that names the file."""
    try:
        return parse_train_summary(read_json(path))
    except InvalidField as error:
        raise UserError(f"{path}: invalid training summary: {error}") from None


def migrate_train_summary(value: Any) -> Any:
    """The same JSON with the field names of this version."""
    if not isinstance(value, dict):
        return value
    migrated = {RENAMED.get(key, key): part for key, part in value.items()}
    if isinstance(migrated.get("execution"), dict):
        switches = migrated["execution"]
        migrated["execution"] = {RENAMED_SWITCHES.get(key, key): part for key, part in switches.items()}
        mode = migrated["execution"].get("gradient_checkpointing")
        if mode in RENAMED_MODES:
            migrated["execution"]["gradient_checkpointing"] = RENAMED_MODES[mode]
    return migrated
