"""What cannot work is refused before any file is read: `UserError` with the key, its value, and what is valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.layers import apply_rule, needs_scores, num_selected
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig, RunConfig
from vrx.config.shuffled_images import is_shuffled
from vrx.metrics.aggregate import AGGREGATES

OUTPUT_TYPES = ("text", "letters", "loglikelihood")
DTYPES = ("float32", "bfloat16")
GLOBAL_BATCH_JOBS = ("finetune", "pretrain", "check")  # other jobs share out samples, not a global batch

SHUFFLING_JOBS = ("evaluate", "finetune")  # that take eval.shuffle_images


def validate(run: RunConfig) -> None:
    """Refuse a run that cannot work: `UserError` with the key, its value, and what is valid."""
    tuning = (_pretrain,) if run.job.name == "pretrain" else (_layers, _lora)
    for part in (_model, *tuning, _data, _train, _engine, _runtime, _benchmarks, _job_options):
        part(run)


def among(key: str, value: Any, valid: Sequence[Any]) -> None:
    """Refuse a value that is not one of `valid`; null means that the default is taken."""
    if value is not None and value not in valid:
        raise UserError(f"{key}={value}: valid are {', '.join(map(str, valid))}")


def within(key: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Refuse a number outside of [low, high]; null means that the default is taken."""
    if value is not None and not low <= value <= high:
        valid = f">= {low}" if high == math.inf else f"between {low} and {high}"
        raise UserError(f"{key}={value}: must be {valid}")


def validate_process_count(run: RunConfig, processes: int) -> None:
    """Refuse a global batch that the processes cannot share evenly."""
    train = run.train
    if train.global_batch_size % (train.micro_batch_size * processes):
        raise UserError(
            f"train.global_batch_size={train.global_batch_size}: valid is a multiple of train.micro_batch_size "
            f"x processes = {train.micro_batch_size} x {processes} = {train.micro_batch_size * processes}"
        )
    if run.engine.name == "torch" and processes > 1:
        raise UserError(f"engine.name=torch: runs in one process, not {processes}; valid is engine.name=deepspeed")


def _model(run: RunConfig) -> None:
    model = run.model
    if model.revision is not None:
        raise UserError(
            f"model.revision={model.revision}: valid with model.lvlm; a part's revision is part of its hub id, "
            f"model.backbone=owner/name@{model.revision}"
        )
    among("model.image_processor", model.image_processor, ("clip", "siglip", "dinov2"))
    among("model.vision_feature_select_strategy", model.vision_feature_select_strategy, ("default", "full"))
    among("model.image_aspect_ratio", model.image_aspect_ratio, ("pad", "square"))
    if run.world is not None:
        resolve_name("world", run.world.name, key="world.name")


def _layers(run: RunConfig) -> None:
    """The layers to tune, unless importance scores decide on them: those are files that another job makes."""
    count, depth = run.layer_count, run.model.num_layers
    if (count.k is None) == (count.fraction is None):
        raise UserError(f"layer_count.k={count.k}: give either layer_count.k or layer_count.fraction")
    within("layer_count.fraction", count.fraction, 0.0, 1.0)
    if run.selector.layers is None and not 1 <= num_selected(run) <= depth:
        raise UserError(f"layer_count={count.k}: valid are 1 to {depth}, the decoder layers of the model")
    resolve_name("rule", run.selector.rule, key="selector.rule")
    if not needs_scores(run):
        apply_rule(run)


def _pretrain(run: RunConfig) -> None:
    """The projector is trained alone, from parts and from fresh weights."""
    if run.model.lvlm is not None:
        raise UserError(
            f"model.lvlm={run.model.lvlm}: has a projector; vrx pretrain makes one between model.vision_tower and "
            "model.backbone, valid is null"
        )
    if run.train.projector_lr != run.train.lr:
        raise UserError(
            f"train.projector_lr={run.train.projector_lr}: vrx pretrain trains the projector at train.lr={run.train.lr}"
        )


def _data(run: RunConfig) -> None:
    fraction = run.data_fraction.fraction
    if not 0 < fraction <= 1:
        raise UserError(f"data_fraction={fraction:g}: must be above 0 and at most 1")
    for data in (run.instructions, run.captions):
        among(f"{data.section}.on_bad_image", data.on_bad_image, ("error", "skip", "replace"))
    among("wandb.mode", run.wandb.mode, ("auto", "online", "offline", "disabled"))


def _train(run: RunConfig) -> None:
    train = run.train
    for key in ("epochs", "max_steps", "global_batch_size", "micro_batch_size"):
        within(f"train.{key}", getattr(train, key), 1)
    for key in ("lr", "projector_lr", "weight_decay", "max_grad_norm"):
        within(f"train.{key}", getattr(train, key), 0)
    within("train.warmup_ratio", train.warmup_ratio, 0, 1)
    among("train.loss_average", train.loss_average, ("micro_batch", "token"))
    among("train.dtype", train.dtype, DTYPES)
    among("train.optimizer", train.optimizer, ("adamw", "adamw_8bit"))
    among("train.scheduler", train.scheduler, ("cosine", "linear", "constant", "constant_with_warmup"))


def _lora(run: RunConfig) -> None:
    within("lora.r", run.lora.r, 1)
    within("lora.dropout", run.lora.dropout, 0, 0.999)
    among("lora.init", run.lora.init and run.lora.init.lower(), ("true", "gaussian"))


def _engine(run: RunConfig) -> None:
    among("engine.name", run.engine.name, ("deepspeed", "torch"))
    among("engine.zero_stage", run.engine.zero_stage, (0, 1, 2, 3))
    among("engine.compile", run.engine.compile, ("always", "auto"))


def _runtime(run: RunConfig) -> None:
    runtime = run.runtime
    num_nodes = runtime.num_nodes or 1
    within("runtime.cpu_processes", runtime.cpu_processes, 1)
    within("runtime.num_gpus", runtime.num_gpus, 0)
    within("runtime.gpus_per_run", runtime.gpus_per_run, 1)
    within("runtime.num_nodes", runtime.num_nodes, 1)
    within("runtime.node_rank", runtime.node_rank, 0, num_nodes - 1)
    within("runtime.num_workers", runtime.num_workers, 0)
    for folder in runtime.results:
        if not Path(folder).is_dir():
            raise UserError(f"runtime.results: {folder} is no folder; valid are those of vrx report report.copy_to=…")
    within("runtime.checkpoint_every", runtime.checkpoint_every, 1)
    if run.job.name in GLOBAL_BATCH_JOBS:
        validate_process_count(run, num_nodes * (runtime.num_gpus or runtime.cpu_processes))


def _benchmarks(run: RunConfig) -> None:
    within("eval.batch_size", run.eval.batch_size, 1)
    within("eval.limit", run.eval.limit, 1)
    if run.eval.shuffle_images and run.job.name not in SHUFFLING_JOBS:
        raise UserError(f"eval.shuffle_images=true: valid with job={' or job='.join(SHUFFLING_JOBS)}")
    for name, benchmark in run.benchmark.items():
        if benchmark.shuffle_images and not is_shuffled(name):
            raise UserError(f"benchmark.{name}.shuffle_images=true: is set by eval.shuffle_images=true alone")
        validate_benchmark(f"benchmark.{name}", benchmark)


def validate_benchmark(key: str, benchmark: BenchmarkConfig) -> None:
    """Refuse a benchmark whose settings name what there is not: `UserError` with the dotted key, below `key`."""
    resolve_name("family", benchmark.family, key=f"{key}.family")
    resolve_name("metric", benchmark.metric, key=f"{key}.metric")
    for label, metric in benchmark.extra_metrics.items():
        resolve_name("metric", metric, key=f"{key}.extra_metrics.{label}")
    if benchmark.reader is not None:
        resolve_name("reader", benchmark.reader, key=f"{key}.reader")
    among(f"{key}.aggregate", benchmark.aggregate, tuple(AGGREGATES))
    among(f"{key}.output_type", benchmark.output_type, OUTPUT_TYPES)


def _job_options(run: RunConfig) -> None:
    depth = run.model.num_layers
    if run.score is not None:
        within("score.samples_per_benchmark", run.score.samples_per_benchmark, 1)
    if run.prune is not None:
        within("prune.num_layers", run.prune.num_layers, 0, depth - 1)
        _distinct_layers("prune.layers", run.prune.layers, depth)
    if run.revert is not None:
        _distinct_layers("revert.layers", run.revert.layers, depth)
        for block in run.revert.blocks or ():
            if len(block) != 2 or not 0 <= block[0] <= block[1] < depth:
                valid = f"pairs [first,last] of layers 0 to {depth - 1}"
                raise UserError(f"revert.blocks={run.revert.blocks}: valid are {valid}")
    if run.check is not None:
        within("check.expected_mfu", run.check.expected_mfu, 0.01, 1.0)
    if run.bench is not None:
        _bench(run)


def _bench(run: RunConfig) -> None:
    bench = run.bench
    assert bench is not None
    for key in ("scale", "steps", "rounds"):
        within(f"bench.{key}", getattr(bench, key), 1)
    within("bench.warmup", bench.warmup, 0)
    within("bench.supervised", bench.supervised, 0.001, 1.0)
    for recipe in bench.recipes:
        if recipe == "peer":
            raise UserError("bench.recipes=peer: this value is called baseline now")
        among("bench.recipes", recipe, ("baseline", "paper", "fast"))
    for key, numbers in {"num_layers": bench.num_layers, "lengths": bench.lengths}.items():
        for number in numbers or ():
            within(f"bench.{key}", number, 1)
    among("bench.dtype", bench.dtype, DTYPES)


def _distinct_layers(key: str, layers: list[int] | None, depth: int) -> None:
    if layers is not None and (len(set(layers)) < len(layers) or not set(layers) <= set(range(depth))):
        raise UserError(f"{key}={layers}: valid are distinct layers among 0 to {depth - 1}")
