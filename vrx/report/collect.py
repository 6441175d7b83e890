"""The runs of an output root, as the report sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vrx.launch.logging import log
from vrx.report.training_time import without_pauses
from vrx.runs.files import digest
from vrx.runs.record import Record, read_record
from vrx.runs.train_summary import TrainSummary


@dataclass(frozen=True)
class Run:
    """A record and the directory of its run."""

    folder: Path
    record: Record

    @property
    def model(self) -> str:
        return self.record.model.name

    @property
    def depth(self) -> int:
        """The number of decoder layers of the model."""
        return self.record.model.num_layers

    @property
    def layers(self) -> frozenset[int]:
        """The tuned layers."""
        return frozenset(self.record.layers)

    @property
    def fraction(self) -> float:
        """The share of the data that was trained on; 1 without training."""
        return self.record.data_fraction

    @property
    def seed(self) -> int | None:
        return self.record.seed

    @property
    def is_tuned(self) -> bool:
        """Whether this is a fine-tuned LVLM, with no layer reverted or pruned."""
        return self.record.is_finetune

    @property
    def is_pretraining(self) -> bool:
        """Whether this is the pre-training of a projector."""
        return self.record.is_pretraining

    @property
    def is_untouched(self) -> bool:
        """Whether this is an LVLM that was neither tuned nor altered."""
        return self.record.is_base_model and not self.is_from_elsewhere

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether another program generated the answers, which are all that is known of the model."""
        return self.record.is_from_elsewhere

    @property
    def reverted(self) -> tuple[int, ...] | None:
        """The layers reverted to the backbone; None where the run is no reversion."""
        return self.record.reverted_layers

    @property
    def pruned(self) -> tuple[int, ...] | None:
        """The pruned layers; None where the run is no pruning."""
        return self.record.pruned_layers

    @property
    def pruned_by(self) -> list[str]:
        """The criteria that chose the pruned layers."""
        return self.record.pruned.by if self.record.pruned else []

    @cached_property
    def train(self) -> TrainSummary:
        """The summary of the training, without pauses of its process; no values where nothing was trained."""
        return without_pauses(self.record.train or TrainSummary(), self.folder)

    @property
    def had_pauses(self) -> bool:
        """Whether the record's time has pauses in it, which `train` leaves out."""
        return self.record.train is not None and self.train.seconds != self.record.train.seconds

    @property
    def git_commit(self) -> str:
        """The commit that trained the run, or that evaluated an LVLM which was not trained; empty where unknown."""
        provenance = self.record.provenance
        sources = [provenance.train] if provenance.train else list(provenance.evaluations.values())
        return next((source.git_commit for source in sources if source.git_commit), "")

    def percent(self, name: str) -> float:
        """The score of a benchmark, in percent."""
        return 100 * self.record.scores[name].value

    def score_name(self, column: str) -> str | None:
        """What the run calls a benchmark of the paper: `tiny_...` and `small_...` in our worlds; None without one."""
        names = (f"{prefix}{column}" for prefix in ("", "tiny_", "small_"))
        return next((name for name in names if name in self.record.scores), None)


def find_runs(root: Path, *results: Path) -> list[Run]:
    """The runs below an output root and below folders of results, by path; a run of several is that of the first.

    An unreadable record is left out with one line that names it.
    """
    runs: dict[str, Run] = {}
    for path in record_files(root, *results):
        try:
            record = read_record(path)
        except (ValueError, OSError) as error:
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            log(f"left out of the report: {message}")
            continue
        runs.setdefault(digest(record.identity), Run(path.parent, record))
    return list(runs.values())


def record_files(root: Path, *results: Path) -> list[Path]:
    """Every record below an output root and below folders of results, readable or not."""
    return [path for folder in (root, *results) for path in sorted(folder.glob("*/*/*/record.json"))]
