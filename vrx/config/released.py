"""Released checkpoints and their published scores, read from `released.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from vrx.config.paths import PACKAGE

FILE = PACKAGE / "config" / "released.yaml"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: the option of conf/model that loads it, its hub id, and its scores in percent by benchmark.

    tolerance: points that a run's score may differ by. questions: how many a benchmark has, where that is known.
    """

    name: str
    model: str
    lvlm: str | None
    source: str
    scores: Mapping[str, float]
    tolerance: float
    questions: Mapping[str, int]

    @property
    def command(self) -> str:
        """The command that evaluates it."""
        weights = f" model.lvlm={self.lvlm}" if self.lvlm else ""
        return f"vrx evaluate model={self.model}{weights} 'benchmark=[{','.join(self.scores)}]'"


@dataclass(frozen=True)
class Released:
    """All checkpoints, and by benchmark what usually explains a score that is missed."""

    checkpoints: tuple[Checkpoint, ...]
    misses: Mapping[str, str]

    def explanation(self, benchmark: str) -> str:
        return f"{self.misses[benchmark]}; {self.misses['other']}" if benchmark in self.misses else self.misses["other"]


@functools.cache
def load_released() -> Released:
    """The content of the file, which is read once."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    checkpoints = []
    for entry in content["checkpoints"]:
        questions = {**content["questions"], **entry.pop("questions", {})}
        checkpoints.append(Checkpoint(**{"tolerance": content["tolerance"], **entry}, questions=questions))
    return Released(tuple(checkpoints), content["misses"])


def released_lvlm(model: str) -> str | None:
    """The hub id of the first checkpoint of a model; None for a model that is evaluated as its parts."""
    return next((each.lvlm for each in load_released().checkpoints if each.model == model), None)
