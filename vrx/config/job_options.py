"""The options of each job, as dataclasses: `conf/job/<job>.yaml` sets those of its job to the same defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from vrx.config.bounds import MAX_LAYERS, number

Options = TypeVar("Options")


def required(options: Options | None) -> Options:
    """The options of the job that runs, which are never null."""
    assert options is not None, "the options of another job"
    return options


@dataclass
class ScoreConfig:
    """The model and the samples of importance scores; `job.run` names another run than the fine-tune of all layers."""

    base_model: bool = False  # score the LVLM before tuning
    benchmarks: list[str] | None = None  # to draw samples from; null: those of the paper's four that the run has
    samples_per_benchmark: int = number(50, 1, 10**6)


@dataclass
class RevertConfig:
    """Layers that get the backbone's weights again; both null: a quarter of the decoder at a time, as in Figure 1."""

    layers: list[int] | None = number(None, 0, MAX_LAYERS)  # the layers of one reversion
    # several reversions, each given by its first and its last layer
    blocks: list[list[int]] | None = number(None, 0, MAX_LAYERS)


@dataclass
class PruneConfig:
    """Layers to remove: the least important ones, or an explicit list."""

    num_layers: int = number(0, 0, MAX_LAYERS)
    layers: list[int] | None = number(None, 0, MAX_LAYERS)  # an explicit list; overrides num_layers
    outside_region: bool | None = None  # only layers that were not tuned; null: yes, unless all were tuned
    score: str = "angular_distance_inputs"  # formula that ranks layers; the lowest are removed first
    scores: str | None = None  # another score file than that of the pruned model
    save: bool = True  # save the checkpoint; false: measure only


@dataclass
class CheckConfig:
    """How thorough `vrx check` is, and what its estimate assumes."""

    decode: bool = False  # decode every image, not only read its header
    gpu: str | None = None  # GPU to estimate hours for, such as A100; null: that of this machine
    expected_mfu: float = number(0.3, 0.01, 1.0)  # share of the GPU's dense bf16 peak that training is assumed to reach


@dataclass
class ReportConfig:
    """What `vrx report` does beside the report."""

    copy_to: str | None = None  # also copy the finished runs to this folder, without weights and machine paths
    insert_into: list[str] = field(default_factory=list)  # Markdown files whose marked blocks are replaced by tables


@dataclass
class ScoreAnswersConfig:
    """Answers that come from another program, or go to one."""

    file: str | None = None  # answers to one benchmark, with the ids of its questions
    name: str | None = None  # of the model that answered
    write_to: str | None = None  # instead: a folder for the answers of job.run


@dataclass
class BenchConfig:
    """What `vrx bench` measures: a model of the shape of model=…, with random weights, on synthetic samples."""

    recipes: list[str] = field(default_factory=lambda: ["baseline", "paper", "fast"])  # baseline: transformers' Trainer
    switches: bool = False  # also the fast recipe with each of its switches turned off in turn
    num_layers: list[int] | None = number(None, 1, MAX_LAYERS)  # numbers of tuned layers; null: layer_count, and all
    # divides all widths of the model; null: 1 on a GPU and for small models, else 8
    scale: int | None = number(None, 1, 65536)
    # tokens of the samples, image tokens included; null: 256, at full size a mix
    lengths: list[int] | None = number(None, 1, 10**7)
    supervised: float = number(0.125, 0.001, 1.0)  # share of the tokens that the loss counts
    dtype: str | None = None  # null: as train.dtype on a GPU, else float32
    steps: int = number(3, 1, 10**6)  # timed steps in each round
    warmup: int = number(2, 0, 10**6)  # untimed steps before them
    rounds: int = number(2, 1, 10**4)  # how often everything is measured, in turn
    inference: bool = True  # also measure generation and scoring


@dataclass
class ExportConfig:
    """What `vrx export` writes: a whole model for other programs, or one PEFT adapter."""

    folder: str | None = None  # null: below outputs/export
    adapter: bool = False  # one PEFT adapter that holds the projector too, not the whole model
    dtype: str | None = None  # float32 or bfloat16; null: as train.dtype
    shard_gb: float = number(4.0, 1e-4, 1000.0)  # GiB of one file of weights
    push_to_hub: str | None = None  # owner/name: also upload it there, as a private repository


@dataclass
class AskConfig:
    """How `vrx ask` answers; the keys image and question say what is asked."""

    max_new_tokens: int = number(128, 1, 10**5)


@dataclass
class CompareConfig:
    """Which runs `vrx compare` asks; the keys image and question say what."""

    runs: list[str] = field(default_factory=list)  # directories of finished runs
    untouched: bool = True  # also the LVLM before tuning
    options: list[str] | None = None  # answers to tell the probability of; null: the most probable first tokens
    first_tokens: int = number(5, 1, 100)
    max_new_tokens: int = number(32, 1, 10**5)


@dataclass
class DemoConfig:
    """The page of `vrx demo`: which runs it offers, where it is, and how they answer."""

    runs: list[str] = field(default_factory=list)  # directories of finished runs; []: all below runtime.output_root
    untouched: bool = True  # also the LVLM before tuning
    port: int | None = number(None, 1024, 65535)  # of 127.0.0.1; null: 7860, or the next free one
    keep_models: int = number(2, 1, 1000)  # that stay in memory after they have answered
    first_tokens: int = number(5, 1, 100)  # how many of the most probable ones are shown
    max_new_tokens: int = number(32, 1, 10**5)
