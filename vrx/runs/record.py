"""`record.json`: what a run is, what its training took, what it scores. The only reader, validator and migrator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig
from vrx.runs.files import read_json, write_json
from vrx.runs.identity import PRETRAIN, hub_commits, migrate_identity
from vrx.runs.metric_names import migrate_metric_names
from vrx.runs.provenance import RunProvenance
from vrx.runs.record_checks import check_record, check_values
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import TrainSummary, migrate_train_summary
from vrx.runs.typed_json import InvalidField, from_json, to_json

SCHEMA_VERSION = 2  # 1: records without a version, before field names and provenance were revised
MODEL_PARTS = ("backbone", "vision_tower", "projector", "lvlm", "tokenizer")


@dataclass
class ModelFacts:
    """The model of a run as the report shows it: no part of the identity."""

    name: str
    num_layers: int  # decoder layers
    parts: dict[str, str] = field(default_factory=dict)  # hub id or folder of each part
    revisions: dict[str, str] = field(default_factory=dict)  # commit hash of each part that comes from the hub
    pretraining: str | None = None  # the run of `vrx pretrain` that made the projector
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class ScoreEntry:
    """A benchmark's scores as fractions in [0, 1]: the main metric, its standard error over `num_samples`, the others.

    `perplexity` is there for log-likelihood benchmarks: by token, word and byte. `chance` is the main metric of a blind
    guesser (`vrx/evaluation/chance.py`); older records have none.
    """

    value: float
    num_samples: int
    stderr: float
    metrics: dict[str, float] = field(default_factory=dict)
    metrics_stderr: dict[str, float] = field(default_factory=dict)
    perplexity: dict[str, float | None] | None = None
    empty_answers_counted_right: dict[str, int] | None = None
    agreement_with_batch_1: dict[str, Any] | None = None
    chance: float | None = field(default=None, compare=False)
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class BeforeAfter:
    """A quantity of the LVLM before and after pruning."""

    before: float
    after: float


@dataclass
class PrunedInfo:
    """What pruning saved, and by which criteria the pruned layers were chosen."""

    by: list[str]
    parameters: BeforeAfter | None = None
    weights_gb: BeforeAfter | None = None
    tokens_per_second: BeforeAfter | None = None
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class LayerScores:
    """The importance scores by which layers were chosen; later scores may replace the file that they are from."""

    formula: str
    values: list[float | None]  # of every decoder layer; None: of one without attention
    made_from: str | None = None  # digest of the weights and samples, as in the score file
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Record:
    """The record of a run. `identity` is the JSON value whose digest begins with `run_id`, but in a
    record that an older version wrote, whose `run_id` stays what its directory is named by."""

    run_id: str
    identity: dict[str, Any]
    model: ModelFacts
    layers: list[int]
    scores: dict[str, ScoreEntry]
    train: TrainSummary | None = None
    selectors: list[str] = field(default_factory=list)  # names of the selectors that chose these layers
    pruned: PrunedInfo | None = None
    layer_kinds: list[str] | None = None  # of each of `layers`, where the model has kinds
    layer_scores: LayerScores | None = None  # that chose the tuned layers, or the pruned ones of a pruning
    provenance: RunProvenance = field(default_factory=RunProvenance)
    schema_version: int = SCHEMA_VERSION
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def reverted_layers(self) -> tuple[int, ...] | None:
        """The layers put back to the backbone; None where the run is no reversion."""
        return tuple(self.identity["reverted"]) if "reverted" in self.identity else None

    @property
    def pruned_layers(self) -> tuple[int, ...] | None:
        """The layers cut out; None where the run is no pruning."""
        return tuple(self.identity["pruned"]) if "pruned" in self.identity else None

    @property
    def is_finetune(self) -> bool:
        """Whether this is a fine-tuned LVLM, with no layer reverted or pruned."""
        return "train" in self.identity and not self._is_altered and not self.is_pretraining

    @property
    def is_pretraining(self) -> bool:
        """Whether this is the pre-training of a projector, `vrx pretrain`."""
        return self.identity.get("stage") == PRETRAIN

    @property
    def is_base_model(self) -> bool:
        """Whether this is an LVLM that was neither tuned nor altered."""
        return "train" not in self.identity and not self._is_altered

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether only answers are known, which another program generated: a record of `vrx score-answers`."""
        return "answers_of" in self.identity.get("weights", {})

    @property
    def _is_altered(self) -> bool:
        return bool(self.identity.keys() & {"reverted", "pruned"})

    @property
    def data_fraction(self) -> float:
        """The share of the instruction data that was trained on; 1 for a base model."""
        return self.identity["data"]["fraction"] if "data" in self.identity else 1.0

    @property
    def seed(self) -> int | None:
        return self.identity.get("seed")

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `record.json`."""
        return to_json(self)

    def write(self, path: Path) -> None:
        """Write `record.json`."""
        write_json(path, self.to_json())


def read_record(path: Path) -> Record:
    """Read a record of this version or an older one; keys that another version added stay in it.

    `UserError` where the file is no record, or was written by a newer version.
    """
    try:
        return parse_record(read_json(path))
    except UserError as error:
        raise error if str(error).startswith(f"{path}: ") else UserError(f"{path}: {error}") from None


def parse_record(value: Any) -> Record:
    """A record from its JSON: migrated and validated. `UserError` with the reason where it is none."""
    version = value.get("schema_version", 1) if isinstance(value, dict) else 1
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"record of schema version {version}; this vrx reads versions up to {SCHEMA_VERSION}, use a newer vrx"
        )
    try:
        check_values(value)
        record = from_json(Record, _migrate(value) if version < 2 else value)
        check_record(record)
    except InvalidField as error:
        raise UserError(f"not a run's record: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"not a run's record: {error!r}") from None
    return record


def model_facts(config: ModelConfig) -> ModelFacts:
    """The facts of a configured model."""
    parts = {part: getattr(config, part) for part in MODEL_PARTS}
    named = {part: name for part, name in parts.items() if name}
    return ModelFacts(config.name, config.num_layers, named, hub_commits(config), _pretraining(config))


def _pretraining(config: ModelConfig) -> str | None:
    """The name of the run of `vrx pretrain` in whose directory a model's projector lies."""
    if not config.projector:
        return None
    run_dir = Path(resolve_path(config.projector)).parent
    with suppress(ValueError, OSError):
        return run_dir.name if read_record(RunDir(run_dir).record).is_pretraining else None
    return None


def _migrate(value: Any) -> dict[str, Any]:
    """A record of version 1 in the form of version 2.

    Version 1 had one provenance, that of the last command that wrote the record.
    """
    if not isinstance(value, dict) or not isinstance(value.get("identity"), dict):
        raise InvalidField("identity is missing" if isinstance(value, dict) else "it is not a JSON object")
    model = value["identity"].get("model")
    if not isinstance(model, dict):
        raise InvalidField("identity.model is missing")
    facts = {key: model[key] for key in ("name", "num_layers") if key in model}
    facts["parts"] = {part: model[part] for part in MODEL_PARTS if model.get(part) is not None}
    migrated = {**value, "identity": migrate_identity(value["identity"]), "model": facts}
    migrated["schema_version"] = SCHEMA_VERSION
    migrated["train"] = migrate_train_summary(value.get("train"))
    if isinstance(value.get("scores"), dict):
        migrated["scores"] = {name: migrate_metric_names(entry) for name, entry in value["scores"].items()}
    provenance = value.get("provenance")
    if provenance and isinstance(value.get("scores"), dict):
        last = {"note": "of the last command that wrote this record"}
        migrated["provenance"] = {
            "train": {**provenance, **last} if value.get("train") else None,
            "evaluations": {name: {**provenance, **last} for name in value["scores"]},
        }
    else:
        migrated["provenance"] = {}
    return migrated


def with_selectors(record: Record, names: Sequence[str]) -> Record:
    """The record with further names of selectors that chose its layers."""
    return dataclasses.replace(record, selectors=sorted({*record.selectors, *names}))
