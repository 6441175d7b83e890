"""From a composed configuration to a run that can work: what is refused, and which layers a run tunes."""

from __future__ import annotations

import math
from typing import Any

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import RunConfig

AGGREGATES = ("mean", "circular", "perplexity")


def validate(run: RunConfig) -> None:
    """Refuse what cannot work, before any weight is loaded: `UserError` with the key, its value, and what is valid."""

    def among(key: str, value: Any, valid: tuple) -> None:
        if value not in valid:
            raise UserError(f"{key}={value}: valid are {', '.join(map(str, valid))}")

    def within(key: str, value: float | None, low: float, high: float = math.inf) -> None:
        if value is not None and not low <= value <= high:
            raise UserError(f"{key}={value}: valid is {low} " + ("or more" if high == math.inf else f"to {high}"))

    if run.model.revision is not None:
        raise UserError(
            f"model.revision={run.model.revision}: valid with model.lvlm; a part's revision is part of its hub id, "
            f"model.backbone=owner/name@{run.model.revision}"
        )
    train, nodes = run.train, run.runtime.num_nodes or 1
    processes = nodes * (run.runtime.num_gpus or run.runtime.cpu_processes)
    if (run.layer_count.k is None) == (run.layer_count.fraction is None):
        raise UserError(f"layer_count.k={run.layer_count.k}: give either layer_count.k or layer_count.fraction")
    within("layer_count.fraction", run.layer_count.fraction, 0.0, 1.0)
    if not 0 < run.data_fraction.fraction <= 1:
        raise UserError(f"data_fraction.fraction={run.data_fraction.fraction}: valid is above 0, at most 1")
    for key in ("epochs", "max_steps", "global_batch_size", "micro_batch_size"):
        within(f"train.{key}", getattr(train, key), 1)
    for key in ("lr", "projector_lr", "weight_decay", "max_grad_norm"):
        within(f"train.{key}", getattr(train, key), 0.0)
    within("runtime.cpu_processes", run.runtime.cpu_processes, 1)
    within("runtime.num_gpus", run.runtime.num_gpus, 0)
    within("runtime.num_nodes", run.runtime.num_nodes, 1)
    within("runtime.node_rank", run.runtime.node_rank, 0, nodes - 1)
    within("train.warmup_ratio", train.warmup_ratio, 0.0, 1.0)
    if run.job.name in ("finetune", "check"):  # other jobs share out samples, not a global batch
        validate_process_count(run, processes)
    within("lora.r", run.lora.r, 1)
    within("lora.dropout", run.lora.dropout, 0.0, 0.999)
    if run.lora.init is not None:
        among("lora.init", run.lora.init.lower(), ("true", "gaussian"))
    within("eval.batch_size", run.eval.batch_size, 1)
    within("eval.limit", run.eval.limit, 1)
    within("score.samples_per_benchmark", run.score.samples_per_benchmark, 1)
    within("runtime.num_workers", run.runtime.num_workers, 0)
    within("runtime.checkpoint_every", run.runtime.checkpoint_every, 1)
    for key in ("scale", "steps", "rounds"):
        within(f"bench.{key}", getattr(run.bench, key), 1)
    within("bench.warmup", run.bench.warmup, 0)
    within("bench.supervised", run.bench.supervised, 0.001, 1.0)
    for recipe in run.bench.recipes:
        if recipe == "peer":
            raise UserError("bench.recipes=peer: this value is called baseline now")
        among("bench.recipes", recipe, ("baseline", "paper", "fast"))
    for number in (*(run.bench.num_layers or ()), *(run.bench.lengths or ())):
        within("bench.num_layers or bench.lengths", number, 1)
    if run.bench.dtype is not None:
        among("bench.dtype", run.bench.dtype, ("float32", "bfloat16"))
    within("check.expected_mfu", run.check.expected_mfu, 0.01, 1.0)
    among("train.loss_average", train.loss_average, ("micro_batch", "token"))
    among("train.dtype", train.dtype, ("float32", "bfloat16"))
    if train.optimizer is not None:
        among("train.optimizer", train.optimizer, ("adamw", "adamw_8bit"))
    if train.scheduler is not None:
        among("train.scheduler", train.scheduler, ("cosine", "linear", "constant", "constant_with_warmup"))
    among("engine.name", run.engine.name, ("deepspeed", "torch"))
    if run.engine.zero_stage is not None:
        among("engine.zero_stage", run.engine.zero_stage, (0, 1, 2, 3))
    if run.engine.compile is not None:
        among("engine.compile", run.engine.compile, ("always", "auto"))
    among("instructions.on_bad_image", run.instructions.on_bad_image, ("error", "skip", "replace"))
    among("model.image_processor", run.model.image_processor, ("clip", "siglip"))
    among("model.image_aspect_ratio", run.model.image_aspect_ratio, ("pad", "square"))
    among("wandb.mode", run.wandb.mode, ("auto", "online", "offline", "disabled"))
    for name, benchmark in run.benchmark.items():
        resolve_name("family", benchmark.family, key=f"benchmark.{name}.family")
        extra = {f"extra_metrics.{key}": metric for key, metric in benchmark.extra_metrics.items()}
        for key, metric in {"metric": benchmark.metric, **extra}.items():
            resolve_name("metric", metric, key=f"benchmark.{name}.{key}")
        if benchmark.reader is not None:
            resolve_name("reader", benchmark.reader, key=f"benchmark.{name}.reader")
        among(f"benchmark.{name}.aggregate", benchmark.aggregate, AGGREGATES)
        among(f"benchmark.{name}.output_type", benchmark.output_type, ("text", "letters", "loglikelihood"))
    if run.world is not None:
        resolve_name("world", run.world.name, key="world.name")
    within("prune.num_layers", run.prune.num_layers, 0, run.model.num_layers - 1)
    for key, layers in {"revert.layers": run.revert.layers, "prune.layers": run.prune.layers}.items():
        if len(set(layers or ())) < len(layers or ()) or not set(layers or ()) <= set(range(run.model.num_layers)):
            raise UserError(f"{key}={layers}: valid are distinct layers among 0 to {run.model.num_layers - 1}")
    for block in run.revert.blocks or ():
        if len(block) != 2 or not 0 <= block[0] <= block[1] < run.model.num_layers:
            last = run.model.num_layers - 1
            raise UserError(f"revert.blocks={run.revert.blocks}: valid are pairs [first,last] of layers 0 to {last}")


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
