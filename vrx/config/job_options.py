"""The options of each job, as dataclasses: `conf/job/<job>.yaml` brings those of its job, with the same defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

Options = TypeVar("Options")


def required(options: Options | None) -> Options:
    """The options of a job inside that job, where they are always present."""
    assert options is not None, "the options of another job"
    return options


@dataclass
class ScoreConfig:
    """What importance scores are taken of and on; `job.run` names another fine-tune than that of all layers."""

    base_model: bool = False  # the LVLM before tuning
    benchmarks: list[str] | None = None  # among benchmark; null: those of the paper's four that are there
    samples_per_benchmark: int = 50


@dataclass
class RevertConfig:
    """Layers put back to the backbone; null both: a quarter of the decoder at a time, as in Figure 1."""

    layers: list[int] | None = None  # one reversion
    blocks: list[list[int]] | None = None  # several, each by its first and its last layer


@dataclass
class PruneConfig:
    """Layers cut out: the least important ones, or an explicit list."""

    num_layers: int = 0
    layers: list[int] | None = None  # an explicit list wins
    outside_region: bool | None = None  # only layers that were not tuned; null: so unless all were tuned
    score: str = "angular_distance_inputs"  # a formula of the score file; the lowest go first, see vrx/jobs/prune.py
    scores: str | None = None  # another score file than that of the LVLM that is pruned
    save: bool = True  # the checkpoint; false: only measured


@dataclass
class CheckConfig:
    """How thoroughly `vrx job=check` looks, and what it reckons with."""

    decode: bool = False  # every image whole, not its header alone
    gpu: str | None = None  # name of the GPU to reckon hours for, such as A100; null: the one here
    expected_mfu: float = 0.3  # of its dense bf16 operations that training makes use of


@dataclass
class BenchConfig:
    """What `vrx job=bench` measures: the shape of model=…, with random weights, on made-up samples."""

    recipes: list[str] = field(default_factory=lambda: ["baseline", "paper", "fast"])  # baseline: transformers' Trainer
    switches: bool = False  # the fast recipe also with each of its switches the other way
    num_layers: list[int] | None = None  # tuned; null: as layer_count, and all
    scale: int | None = None  # all widths are divided by it; null: 1 on a GPU and for small models, else 8
    lengths: list[int] | None = None  # positions of the samples, image tokens counted; null: 256, full size a mix
    supervised: float = 0.125  # share of the positions
    dtype: str | None = None  # null: as train.dtype on a GPU, else float32
    steps: int = 3  # timed in each round, after as many that are not as `warmup` says
    warmup: int = 2
    rounds: int = 2  # of all that is compared, in turn
    inference: bool = True  # generation and scoring too
