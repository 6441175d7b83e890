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
from vrx.runs.files import digest
from vrx.runs.record import Record, read_record
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import TrainSummary


@dataclass(frozen=True)
class Run:
    """A record and the directory it lies in."""

    folder: Path
    record: Record

    @property
    def model(self) -> str:
        return self.record.model.name

    @property
    def depth(self) -> int:
        return self.record.model.num_layers

    @property
    def layers(self) -> frozenset[int]:
        return frozenset(self.record.layers)

    @property
    def fraction(self) -> float:
        return self.record.data_fraction

    @property
    def seed(self) -> int | None:
        return self.record.seed

    @property
    def is_tuned(self) -> bool:
        return self.record.is_finetune

    @property
    def reverted(self) -> tuple[int, ...] | None:
        return self.record.reverted_layers

    @property
    def pruned(self) -> tuple[int, ...] | None:
        return self.record.pruned_layers

    @property
    def is_untouched(self) -> bool:
        return self.record.is_base_model

    @property
    def train(self) -> TrainSummary:
        """What the training took; with no values where nothing was trained."""
        return self.record.train or TrainSummary()

    @property
    def pruned_by(self) -> list[str]:
        """The criteria that chose the pruned layers."""
        return self.record.pruned.by if self.record.pruned else []

    @property
    def git_commit(self) -> str:
        """The commit that trained the run, or that evaluated an LVLM which was not trained."""
        provenance = self.record.provenance
        known = [provenance.train] if provenance.train else list(provenance.evaluations.values())
        return next((each.git_commit for each in known if each.git_commit), "")


Scores = Callable[[Run, str], Mapping[str, float] | None]  # (run, benchmark as the run calls it) -> score by question


def find_runs(root: Path) -> list[Run]:
    """The runs below an output root, by path; an unreadable record is named and left out."""
    runs: dict[str, Run] = {}
    for path in sorted(root.glob("*/*/*/record.json")):
        try:
            record = read_record(path)
        except (ValueError, OSError) as error:
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            log(f"left out of the report: {message}")
            continue
        runs.setdefault(digest(record.identity), Run(path.parent, record))
    return list(runs.values())


def setting(run: Run) -> dict[str, Any]:
    """What must be equal for two runs to stand in one table: all of the identity but layers, data fraction, seed."""
    rest = {key: part for key, part in run.record.identity.items() if key not in ("layers", "seed")}
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
    return next((name for name in (column, f"tiny_{column}") if name in run.record.scores), None)


def benchmark_configs(run: Run) -> dict[str, BenchmarkConfig]:
    """The benchmarks of the run's last command, from its frozen configuration; none where that cannot be read."""
    try:
        text = RunDir(run.folder).config.read_text(encoding="utf-8")
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
        config, entry = own[folder].get(name, elsewhere.get(name)), run.record.scores[name]
        given = read(run, name)
        try:
            scores = scores_by_question(config, given) if config and given else {}
        except ValueError:
            return None
        same = 0 < len(scores) == entry.num_samples and math.isclose(aggregate.mean(scores.values()), entry.value)
        return scores if same else None

    return lambda run, name: scored(run.folder, name)
