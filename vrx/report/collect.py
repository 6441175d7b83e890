"""The runs below a folder as a report sees them: records that hold, what they have in common, scores by question."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vrx.config.errors import UserError
from vrx.config.schema import BenchmarkConfig
from vrx.evaluation import prediction_files
from vrx.evaluation.scoring import scores_by_question
from vrx.launch.logging import log
from vrx.metrics import aggregate
from vrx.metrics.answer import Answer
from vrx.runs.files import digest, read_json

TUNED = {"model", "weights", "layers", "data", "lora", "train", "engine", "seed"}  # keys of an identity
UNTOUCHED = {"model", "weights"}


@dataclass(frozen=True)
class Run:
    """A record and the directory it lies in."""

    folder: Path
    record: dict[str, Any]

    @property
    def model(self) -> str:
        return self.record["identity"]["model"]["name"]

    @property
    def depth(self) -> int:
        return self.record["identity"]["model"]["num_layers"]

    @property
    def layers(self) -> frozenset[int]:
        return frozenset(self.record["layers"])

    @property
    def fraction(self) -> float:
        return self.record["identity"]["data"]["fraction"] if self.is_tuned else 1.0

    @property
    def seed(self) -> int | None:
        return self.record["identity"].get("seed")

    @property
    def is_tuned(self) -> bool:
        return set(self.record["identity"]) == TUNED

    @property
    def reverted(self) -> tuple[int, ...] | None:
        """The layers put back to the backbone; None where the run is no reversion."""
        return self._done("reverted")

    @property
    def pruned(self) -> tuple[int, ...] | None:
        """The layers cut out; None where the run is no pruning."""
        return self._done("pruned")

    def _done(self, key: str) -> tuple[int, ...] | None:
        identity = self.record["identity"]
        return tuple(identity[key]) if set(identity) - {key} in (TUNED, UNTOUCHED) and key in identity else None

    @property
    def is_untouched(self) -> bool:
        return set(self.record["identity"]) == UNTOUCHED


Scores = Callable[[Run, str], Mapping[str, float] | None]  # (run, benchmark as the run calls it) -> score by question


def find_runs(root: Path) -> list[Run]:
    """The runs below an output root, by path; a record that cannot be read or is no run's is told and left out."""
    found: dict[str, Run] = {}
    for path in sorted(root.glob("*/*/*/record.json")):
        try:
            record = read_json(path)
            validate_record(record)
        except (ValueError, OSError) as error:
            told = str(error) if str(path) in str(error) else f"{path}: {error}"
            log(f"left out of the report: {told}")
            continue
        found.setdefault(digest(record["identity"]), Run(path.parent, record))
    return list(found.values())


def validate_record(record: Any) -> None:
    """Refuse what is not a run's record, with the reason: `UserError`."""
    try:
        identity, train = record["identity"], record["train"] or {}
        model, layers = identity["model"], record["layers"]
        shape = {
            "identity.model.name": isinstance(model["name"], str),
            "identity.model.num_layers": isinstance(model["num_layers"], int),
            "layers": len(set(layers)) == len(layers) and all(layer in range(model["num_layers"]) for layer in layers),
            "run_id": isinstance(record["run_id"], str),
            "train": all(isinstance(train.get(key, 0), int | float) for key in ("seconds", "gpu_hours")),
        }
        if set(identity) == TUNED:
            shape["layers"] = shape["layers"] and len(layers) > 0
            shape["identity.data.fraction"] = 0 < identity["data"]["fraction"] <= 1
            shape["identity.seed"] = isinstance(identity["seed"], int)
        for key in ("reverted", "pruned"):
            shape[f"identity.{key}"] = set(identity.get(key, ())) <= set(range(model["num_layers"]))
        if "pruned" in record:
            shape["pruned.by"] = all(isinstance(way, str) for way in record["pruned"]["by"])
        for name, entry in record["scores"].items():
            shape[f"scores.{name}"] = (
                0 <= entry["value"] <= 1 and 0 <= entry["stderr"] < math.inf and isinstance(entry["num_samples"], int)
            )
    except KeyError as error:
        raise UserError(f"not the record of a run: {error} is missing") from None
    except (TypeError, AttributeError):
        raise UserError("not the record of a run: it has another form") from None
    wrong = [key for key, right in shape.items() if not right]
    if wrong:
        raise UserError(f"not the record of a run: {wrong[0]} is none of its kind")


def setting(run: Run) -> dict[str, Any]:
    """What must be equal for two runs to stand in one table: all of the identity but layers, data fraction, seed."""
    rest = {key: part for key, part in run.record["identity"].items() if key not in ("layers", "seed")}
    return {**rest, "data": {key: part for key, part in rest["data"].items() if key != "fraction"}}


def settings(runs: list[Run], model: str) -> list[list[Run]]:
    """The tuned runs of a model, those of one setting together: the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.model == model and run.is_tuned:
            groups.setdefault(digest(setting(run)), []).append(run)
    return [group for _, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))]


def told_apart(groups: list[list[Run]]) -> list[str]:
    """For each group what its setting has that not all have: `train.lr=0.002`; empty where there is one group."""

    def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, part in value.items():
            found |= flat(part, f"{prefix}{key}.") if isinstance(part, dict) else {prefix + key: part}
        return found

    each = [flat(setting(group[0])) for group in groups]
    keys = [
        key for key in dict.fromkeys(key for one in each for key in one) if len({repr(e.get(key)) for e in each}) > 1
    ]
    return [", ".join(f"{key}={str(one.get(key))[:16]}" for key in keys) for one in each]


def score_name(run: Run, column: str) -> str | None:
    """What a run calls a benchmark of the paper: the embedded world's are `tiny_…`; None where it has no such score."""
    return next((name for name in (column, f"tiny_{column}") if name in run.record["scores"]), None)


def benchmark_configs(run: Run) -> dict[str, BenchmarkConfig]:
    """The benchmarks of the run's last command, from its frozen configuration; none where that cannot be read."""
    try:
        text = (run.folder / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    part = re.search(r"^benchmark:.*(?:\n(?: .*)?)*", text, re.MULTILINE)
    return _benchmarks_in(part.group()) if part else {}


@functools.cache  # parsing a whole configuration for each of thousands of runs takes longer than all else
def _benchmarks_in(text: str) -> dict[str, BenchmarkConfig]:
    fields = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    try:
        told = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["benchmark"]
        return {name: BenchmarkConfig(**part) for name, part in told.items() if set(part) <= fields}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def read(run: Run, name: str) -> list[Answer]:
    """The answers of a run to a benchmark, whatever made them; none where there is no file."""
    try:
        predictions = prediction_files.load_predictions(prediction_files.predictions_file(run.folder, name))
    except (OSError, UserError):
        return []
    return list(predictions.answers.values()) if predictions else []


def scorer(runs: list[Run]) -> Scores:
    """Scores by question, made again from the answers; None where they do not give what the record says.

    A benchmark that the run's own configuration does not name any more is scored as another run's does.
    """
    own = {run.folder: benchmark_configs(run) for run in runs}
    elsewhere = {name: config for configs in own.values() for name, config in configs.items()}
    by_folder = {run.folder: run for run in runs}

    @functools.cache
    def scored(folder: Path, name: str) -> Mapping[str, float] | None:
        run = by_folder[folder]
        config, entry = own[folder].get(name, elsewhere.get(name)), run.record["scores"][name]
        given = read(run, name)
        try:
            scores = scores_by_question(config, given) if config and given else {}
        except ValueError:
            return None
        same = 0 < len(scores) == entry["num_samples"] and math.isclose(aggregate.mean(scores.values()), entry["value"])
        return scores if same else None

    return lambda run, name: scored(run.folder, name)
