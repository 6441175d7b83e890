"""The files of a run directory, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """A run directory: every file that more than one module touches is a property.

    Files that belong to one job alone are named in the package of that job (`vrx/jobs/<job>`).
    """

    path: Path

    @property
    def config(self) -> Path:
        """The run's configuration, frozen when the run was made and never rewritten."""
        return self.path / "config.yaml"

    @property
    def command_config(self) -> Path:
        """The configuration of the command that works on the run now; its workers start from it."""
        return self.path / ".command.yaml"

    @property
    def layers(self) -> Path:
        """The tuned decoder layers, as JSON."""
        return self.path / "layers.json"

    @property
    def data(self) -> Path:
        """Which table of instruction data the run trains on, and its digest."""
        return self.path / "data.json"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def projector(self) -> Path:
        """The projector that `vrx pretrain` trained, as `model.projector` takes it."""
        return self.path / "projector"

    @property
    def official(self) -> Path:
        """The same in the layout of LLaVA's stage 1."""
        return self.path / "official"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    @property
    def train_log(self) -> Path:
        """One JSON line a training step."""
        return self.path / "train.jsonl"

    @property
    def train_summary(self) -> Path:
        """Written last of all by the training: the run is trained where it exists."""
        return self.path / "train.json"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def broken_record(self) -> Path:
        """An unreadable record, moved aside."""
        return self.path / "record.json.broken"

    @property
    def answers(self) -> Path:
        return self.path / "answers"

    @property
    def surgery(self) -> Path:
        """Which layers were reverted or pruned."""
        return self.path / "surgery.json"

    @property
    def pruned(self) -> Path:
        """The checkpoint that pruning saved."""
        return self.path / "pruned"

    @property
    def copied(self) -> Path:
        """Marks a copy without weights: the digest of its weights, and the command that makes the run again."""
        return self.path / "copied.json"

    @property
    def wandb(self) -> Path:
        """The W&B run of this run and the last step it was sent."""
        return self.path / "wandb.json"

    @property
    def worker_log(self) -> Path:
        """Tracebacks of workers."""
        return self.path / "worker.log"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def predictions(self, benchmark: str) -> Path:
        """The answers to a benchmark, as JSON lines."""
        return self.answers / f"{benchmark}.jsonl"

    def predictions_part(self, benchmark: str, rank: int) -> Path:
        """The answers of one rank, until all are merged."""
        return self.answers / f".{benchmark}.{rank}.part"
