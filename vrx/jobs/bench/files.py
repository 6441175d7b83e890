"""The files that driver and worker of `vrx bench` share: `outputs/bench/<model>/`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vrx.runs.files import read_json, write_json


@dataclass(frozen=True)
class SyntheticInputs:
    """The weights and samples that a benchmark runs on.

    like: the model configuration whose shape the random weights have; None where the model's own weights are used.
    scale: every width is divided by it. lengths: positions of the samples, image tokens included. supervised: share of
    the positions that carry a label.
    """

    like: dict[str, Any] | None
    scale: int
    lengths: tuple[int, ...]
    num_samples: int
    supervised: float
    dtype: str
    template: str
    is_full_size: bool

    @classmethod
    def read(cls, path: Path) -> SyntheticInputs:
        """The inputs that a file describes."""
        fields = read_json(path)
        return cls(**{**fields, "lengths": tuple(fields["lengths"])})

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


@dataclass(frozen=True)
class BenchDir:
    """The directory of one benchmarked model."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def requested_inputs(self) -> Path:
        """`SyntheticInputs` that the worker shall make."""
        return self.path / "requested_inputs.json"

    @property
    def inputs(self) -> Path:
        """`SyntheticInputs` that are complete."""
        return self.path / "inputs.json"

    @property
    def parts(self) -> Path:
        """Backbone, vision tower and projector with random weights."""
        return self.path / "parts"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def instructions(self) -> Path:
        return self.data / "instructions.json"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def inference(self) -> Path:
        """The run directory of the inference stage."""
        return self.path / "inference"

    def variant(self, name: str, num_layers: int) -> Path:
        """The run directory of one variant."""
        return self.path / f"{name.replace(' ', '_')}-{num_layers}"

    def result(self, suffix: str) -> Path:
        """The table (`md`), the numbers (`json`) or the figure (`png`)."""
        return self.path / f"bench.{suffix}"


def inference_file(run_dir: Path) -> Path:
    """What the inference stage measured."""
    return run_dir / "inference.json"
