"""The schema of `conf/`: what a run may be told, as dataclasses; freezing it to a file and reading it back."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

PACKAGE = Path(__file__).parent


@dataclass
class ModelConfig:
    """An LVLM as (vision tower, projector, backbone); each a hub id, a folder, or `vrx:` and a path in the package."""

    name: str = MISSING
    num_layers: int = MISSING  # decoder layers of the backbone; the worker checks it against the weights
    backbone: str = MISSING
    vision_tower: str = MISSING
    projector: str = MISSING
    tokenizer: str | None = None  # where it is not the backbone's
    template: str = MISSING  # conversation template, see vrx/prompts.py
    image_token: str = MISSING  # a token that never occurs in text; its place is taken by the image's features
    num_image_tokens: int = MISSING
    vision_feature_layer: int = -2
    vision_feature_select_strategy: str = "full"  # "default" drops CLIP's class token
    image_processor: str = "siglip"  # clip | siglip
    image_aspect_ratio: str = "pad"  # pad to a square in the processor's mean colour | square
    max_length: int = 2048  # tokens of a conversation, image tokens counted


@dataclass
class SelectorConfig:
    name: str = MISSING
    _target_: str = MISSING
    layers: list[int] | None = None  # an explicit list wins over the selector
    offset: int | None = None
    start: str | None = None
    seed: int | None = None


@dataclass
class LayerCountConfig:
    k: int | None = None
    fraction: float | None = None  # of the decoder layers, instead of k


@dataclass
class DataFractionConfig:
    fraction: float = 1.0


@dataclass
class InstructionsConfig:
    path: str | None = None  # instruction data, JSON in LLaVA's format
    image_folder: str | None = None
    on_bad_image: str = "error"  # error | skip | replace


@dataclass
class WorldConfig:
    """Data made on first use, for models that bring their own world."""

    _target_: str = MISSING
    folder: str = MISSING
    num_images: int = MISSING
    num_questions: int = MISSING  # of each benchmark
    seed: int = 0


@dataclass
class BenchmarkConfig:
    """A benchmark as data: where its samples are, how they are asked, how answers are scored."""

    _target_: str = MISSING  # the family of code that reads it
    path: str | None = None
    image_folder: str | None = None
    prompt: str = "{question}"
    hint_prefix: str = ""  # before the hint of a multiple-choice question, where it has one
    max_new_tokens: int = 32
    metric: str = MISSING  # a function of vrx.metrics: Answer -> score
    also: dict[str, str] = field(default_factory=dict)  # further metrics, in the record beside the main one
    aggregate: str = "vrx.metrics.mean"
    paper: str | None = None  # its column in the paper's tables


@dataclass
class LoraConfig:
    r: int = 128
    alpha: int = 256
    dropout: float = 0.05


@dataclass
class TrainConfig:
    """Hyper-parameters; where they come from stands in conf/recipe/paper.yaml."""

    epochs: int = 1
    max_steps: int | None = None
    global_batch_size: int = 128
    micro_batch_size: int = 8
    lr: float = 2e-4
    projector_lr: float = 2e-5
    weight_decay: float = 0.0
    warmup_ratio: float = 0.03
    max_grad_norm: float = 0.0  # 0: no clipping, as in the paper's runs
    loss_average: str = "micro_batch"  # micro_batch: mean of the micro-batches' means | token: over the global batch
    gradient_checkpointing: bool = True
    dtype: str = "bfloat16"


@dataclass
class EngineConfig:
    name: str = "deepspeed"  # deepspeed | torch
    zero_stage: int = 3


@dataclass
class EvalConfig:
    batch_size: int = 16
    limit: int | None = None  # samples of each benchmark, the first ones


@dataclass
class RuntimeConfig:
    """Where and how a run runs; none of it changes what is trained."""

    output_root: str = "outputs"
    num_gpus: int | None = None  # one process each; null: all there are
    cpu_processes: int = 1  # where there is no GPU
    num_workers: int = 2  # loader processes of each rank
    checkpoint_every: int = 500  # optimizer steps


@dataclass
class WandbConfig:
    mode: str = "auto"  # auto: online where an account is configured | online | offline | disabled
    project: str = "vrx"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class JobConfig:
    name: str = MISSING
    _target_: str = MISSING
    run: str | None = None  # evaluate: a finished run instead of the untouched LVLM


@dataclass
class SweepConfig:
    name: str | None = None


@dataclass
class RunConfig:
    """Everything one run is told."""

    job: JobConfig = field(default_factory=JobConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    layer_count: LayerCountConfig = field(default_factory=LayerCountConfig)
    data_fraction: DataFractionConfig = field(default_factory=DataFractionConfig)
    instructions: InstructionsConfig = field(default_factory=InstructionsConfig)
    world: WorldConfig | None = None
    benchmark: dict[str, BenchmarkConfig] = field(default_factory=dict)
    recipe: str = MISSING
    lora: LoraConfig = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = 0


def named(path: str, *, key: str = "_target_") -> Callable[..., Any]:
    """The function of this package that a configuration names, `vrx.module.function`; nothing else may be named."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name) if path.startswith("vrx.") else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{key}={path}: there is no such function ({error})") from None
    if name.startswith("_") or not callable(found) or not found.__module__.startswith("vrx."):
        raise ValueError(f"{key}={path}: only public functions of vrx.… may be named")
    return found


def located(path: str) -> str:
    """A path as given, but `vrx:…` inside the installed package."""
    return str(PACKAGE / path.removeprefix("vrx:")) if path.startswith("vrx:") else path


def num_selected(run: RunConfig) -> int:
    """How many layers to select: `k`, the fraction of the decoder, or the length of an explicit list."""
    if run.selector.layers is not None and run.selector._target_ != "vrx.selectors.fixed":
        return len(run.selector.layers)
    if run.layer_count.fraction is not None:
        return max(1, math.floor(run.layer_count.fraction * run.model.num_layers + 0.5))
    assert run.layer_count.k is not None, "check() lets no other through"
    return run.layer_count.k


def select(run: RunConfig) -> tuple[int, ...]:
    """The decoder layers this run tunes."""
    options = dataclasses.asdict(run.selector)
    explicit = options["layers"] is not None
    target = "vrx.selectors.fixed" if explicit else options["_target_"]
    keys = ("layers",) if explicit else ("offset", "start", "seed")
    arguments = {key: options[key] for key in keys if options[key] is not None}
    selector = named(target, key="selector._target_")
    try:
        inspect.signature(selector).bind(run.model.num_layers, num_selected(run), **arguments)
    except TypeError as error:
        given = ", ".join(f"selector.{key}={value}" for key, value in arguments.items())
        raise ValueError(f"{given or 'selector._target_=' + target}: {selector.__name__}: {error}") from None
    return selector(run.model.num_layers, num_selected(run), **arguments)


def check(run: RunConfig) -> None:
    """Refuse what cannot work, before any weight is loaded: `ValueError` with the key, its value, and what is valid."""

    def among(key: str, value: Any, valid: tuple) -> None:
        if value not in valid:
            raise ValueError(f"{key}={value}: valid are {', '.join(map(str, valid))}")

    def within(key: str, value: float | None, low: float, high: float = math.inf) -> None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"{key}={value}: valid is {low} " + ("or more" if high == math.inf else f"to {high}"))

    train, processes = run.train, run.runtime.num_gpus or run.runtime.cpu_processes
    if (run.layer_count.k is None) == (run.layer_count.fraction is None):
        raise ValueError(f"layer_count.k={run.layer_count.k}: give either layer_count.k or layer_count.fraction")
    within("layer_count.fraction", run.layer_count.fraction, 0.0, 1.0)
    select(run)
    if not 0 < run.data_fraction.fraction <= 1:
        raise ValueError(f"data_fraction.fraction={run.data_fraction.fraction}: valid is above 0, at most 1")
    for key in ("epochs", "max_steps", "global_batch_size", "micro_batch_size"):
        within(f"train.{key}", getattr(train, key), 1)
    for key in ("lr", "projector_lr", "weight_decay", "max_grad_norm"):
        within(f"train.{key}", getattr(train, key), 0.0)
    within("runtime.cpu_processes", run.runtime.cpu_processes, 1)
    within("runtime.num_gpus", run.runtime.num_gpus, 0)
    within("train.warmup_ratio", train.warmup_ratio, 0.0, 1.0)
    if train.global_batch_size % (train.micro_batch_size * processes):
        raise ValueError(
            f"train.global_batch_size={train.global_batch_size}: valid is a multiple of train.micro_batch_size "
            f"x processes = {train.micro_batch_size} x {processes} = {train.micro_batch_size * processes}"
        )
    within("lora.r", run.lora.r, 1)
    within("lora.dropout", run.lora.dropout, 0.0, 0.999)
    within("eval.batch_size", run.eval.batch_size, 1)
    within("eval.limit", run.eval.limit, 1)
    within("runtime.num_workers", run.runtime.num_workers, 0)
    within("runtime.checkpoint_every", run.runtime.checkpoint_every, 1)
    among("train.loss_average", train.loss_average, ("micro_batch", "token"))
    among("train.dtype", train.dtype, ("float32", "bfloat16"))
    among("engine.name", run.engine.name, ("deepspeed", "torch"))
    among("engine.zero_stage", run.engine.zero_stage, (0, 1, 2, 3))
    if run.engine.name == "torch" and processes > 1:
        raise ValueError(f"engine.name=torch: runs in one process, not {processes}; valid there is engine.name=deepspeed")
    among("instructions.on_bad_image", run.instructions.on_bad_image, ("error", "skip", "replace"))
    among("model.image_processor", run.model.image_processor, ("clip", "siglip"))
    among("model.image_aspect_ratio", run.model.image_aspect_ratio, ("pad", "square"))
    among("wandb.mode", run.wandb.mode, ("auto", "online", "offline", "disabled"))
    for name, benchmark in run.benchmark.items():
        targets = {"_target_": benchmark._target_, "metric": benchmark.metric}
        for key, target in (targets | {f"also.{key}": target for key, target in benchmark.also.items()}).items():
            named(target, key=f"benchmark.{name}.{key}")
        among(f"benchmark.{name}.aggregate", benchmark.aggregate, ("vrx.metrics.mean", "vrx.metrics.circular"))
    if run.world is not None:
        named(run.world._target_, key="world._target_")


def to_run(composed: Any) -> RunConfig:
    """The typed, checked run of a composed configuration (or of a frozen file)."""
    plain = OmegaConf.to_container(composed)  # untyped, so that the merge refuses a key which `+` put in
    run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), plain))
    assert isinstance(run, RunConfig)
    check(run)
    return run


def freeze(run: RunConfig) -> str:
    """The run as YAML, every value resolved: what a worker starts from."""
    return OmegaConf.to_yaml(OmegaConf.structured(run))


def thaw(path: Path) -> RunConfig:
    """Read a frozen run back."""
    return to_run(OmegaConf.load(path))
