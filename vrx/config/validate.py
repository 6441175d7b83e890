"""What cannot work is refused before any file is read: `UserError` with the key, its value, and what is valid."""

from __future__ import annotations

import re
from pathlib import Path

from vrx.config.bounds import among, check_bounds, within
from vrx.config.errors import UserError
from vrx.config.instruction_sources import check_sources
from vrx.config.layers import apply_rule, needs_kinds, needs_scores, num_selected
from vrx.config.model_checks import check_model
from vrx.config.paths import as_file_name
from vrx.config.resolve import resolve_name
from vrx.config.schema import BenchmarkConfig, RunConfig
from vrx.config.shuffled_images import is_shuffled
from vrx.metrics.aggregate import AGGREGATES
from vrx.selectors.formulas import FORMULAS

OUTPUT_TYPES = ("text", "letters", "loglikelihood")
DTYPES = ("float32", "bfloat16")
MAIN = "score"  # the name of a benchmark's main metric among its metrics
GLOBAL_BATCH_JOBS = ("finetune", "pretrain", "check")  # other jobs share out samples, not a global batch
UNTUNED_JOBS = ("evaluate", "report", "score")  # that do not take the layers which the configuration chooses
SHUFFLING_JOBS = ("evaluate", "finetune")  # that take eval.shuffle_images


def validate(run: RunConfig) -> None:
    """Refuse a run that cannot work: `UserError` with the key, its value, and what is valid."""
    check_bounds(run)
    tuning = (_pretrain,) if run.job.name == "pretrain" else (_layers, _lora)
    for part in (check_model, *tuning, _data, _train, _engine, _runtime, _benchmarks, _job_options):
        part(run)


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


def _layers(run: RunConfig) -> None:
    """The layers to tune, unless importance scores decide on them: those are files that another job makes."""
    count, depth = run.layer_count, run.model.num_layers
    if (count.k is None) == (count.fraction is None):
        raise UserError(f"layer_count.k={count.k}: give either layer_count.k or layer_count.fraction")
    _share("layer_count.fraction", count.fraction)
    _share("selector.scores_from_fraction", run.selector.scores_from_fraction)
    is_used = run.job.name not in UNTUNED_JOBS or run.selector.layers is not None
    if run.selector.layers is None and not 1 <= num_selected(run) <= depth and is_used:
        raise UserError(f"layer_count={count.k}: valid are 1 to {depth}, the decoder layers of the model")
    resolve_name("rule", run.selector.rule, key="selector.rule")
    if run.selector.scores is None:
        among("selector.formula", run.selector.formula, FORMULAS)
    if is_used and not needs_scores(run) and not needs_kinds(run):
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
    if run.captions.objective == "word_alignment" and run.train.micro_batch_size == 1:
        raise UserError(
            "train.micro_batch_size=1: captions.objective=word_alignment tells the captions of a micro-batch apart; "
            "use 32 or more"
        )


def _data(run: RunConfig) -> None:
    _share("data_fraction", run.data_fraction.fraction)
    for data in (run.instructions, run.captions):
        among(f"{data.section}.on_bad_image", data.on_bad_image, ("error", "skip", "replace"))
        check_sources(data, has_parts=run.model.is_assembled)
    among("captions.template", run.captions.template, ("plain", "model"))
    among("captions.objective", run.captions.objective, ("language_model", "word_alignment"))
    among("wandb.mode", run.wandb.mode, ("auto", "online", "offline", "disabled"))


def _train(run: RunConfig) -> None:
    train = run.train
    among("train.loss_average", train.loss_average, ("micro_batch", "token"))
    among("train.dtype", train.dtype, DTYPES)
    among("train.optimizer", train.optimizer, ("adamw", "adamw_8bit"))
    among("train.scheduler", train.scheduler, ("cosine", "linear", "constant", "constant_with_warmup"))


def _lora(run: RunConfig) -> None:
    among("lora.init", run.lora.init and run.lora.init.lower(), ("true", "gaussian"))


def _engine(run: RunConfig) -> None:
    among("engine.name", run.engine.name, ("deepspeed", "torch"))
    among("engine.compile", run.engine.compile, ("always", "auto"))


def _runtime(run: RunConfig) -> None:
    runtime = run.runtime
    num_nodes = runtime.num_nodes or 1
    if not runtime.output_root.strip():
        raise UserError(f"runtime.output_root='{runtime.output_root}': valid is a folder, such as outputs")
    if runtime.num_nodes is not None:  # else SLURM's job step says how many there are
        within("runtime.node_rank", runtime.node_rank, 0, num_nodes - 1)
    for folder in runtime.results:
        if not Path(folder).is_dir():
            raise UserError(f"runtime.results: {folder} is no folder; valid are those of vrx report report.copy_to=…")
    if run.job.name in GLOBAL_BATCH_JOBS:
        validate_process_count(run, num_nodes * (runtime.num_gpus or runtime.cpu_processes))


def _benchmarks(run: RunConfig) -> None:
    if run.eval.shuffle_images and run.job.name not in SHUFFLING_JOBS:
        raise UserError(f"eval.shuffle_images=true: valid with job={' or job='.join(SHUFFLING_JOBS)}")
    for name, benchmark in run.benchmark.items():
        if benchmark.shuffle_images and not is_shuffled(name):
            raise UserError(f"benchmark.{name}.shuffle_images=true: is set by eval.shuffle_images=true alone")
        if as_file_name(name) != name:
            raise UserError(f"benchmark.{name}: is the name of files; valid are letters, digits and . _ + = -")
        validate_benchmark(f"benchmark.{name}", benchmark)


def validate_benchmark(key: str, benchmark: BenchmarkConfig) -> None:
    """Refuse a benchmark whose settings name what there is not: `UserError` with the dotted key, below `key`."""
    resolve_name("family", benchmark.family, key=f"{key}.family")
    resolve_name("metric", benchmark.metric, key=f"{key}.metric")
    for label, metric in benchmark.extra_metrics.items():
        if label == MAIN:
            raise UserError(f"{key}.extra_metrics.{MAIN}={metric}: {MAIN} is the main metric; valid is any other name")
        resolve_name("metric", metric, key=f"{key}.extra_metrics.{label}")
    if benchmark.reader is not None:
        resolve_name("reader", benchmark.reader, key=f"{key}.reader")
    if benchmark.box_scale not in (None, "resized") and not _is_positive(benchmark.box_scale):
        raise UserError(f"{key}.box_scale={benchmark.box_scale}: valid are resized and a number above 0, such as 1000")
    among(f"{key}.aggregate", benchmark.aggregate, tuple(AGGREGATES))
    among(f"{key}.output_type", benchmark.output_type, OUTPUT_TYPES)


def _job_options(run: RunConfig) -> None:
    depth = run.model.num_layers
    if run.prune is not None:
        if run.prune.scores is None:
            among("prune.score", run.prune.score, FORMULAS)
        within("prune.num_layers", run.prune.num_layers, 0, depth - 1)
        _distinct_layers("prune.layers", run.prune.layers, depth)
    if run.revert is not None:
        _distinct_layers("revert.layers", run.revert.layers, depth)
        for block in run.revert.blocks or ():
            if len(block) != 2 or not 0 <= block[0] <= block[1] < depth:
                valid = f"pairs [first,last] of layers 0 to {depth - 1}"
                raise UserError(f"revert.blocks={run.revert.blocks}: valid are {valid}")
    if run.bench is not None:
        _bench(run)
    if run.export is not None:
        among("export.dtype", run.export.dtype, DTYPES)
        if run.export.push_to_hub is not None and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", run.export.push_to_hub):
            raise UserError(f"export.push_to_hub={run.export.push_to_hub}: valid is owner/name, or null")


def _bench(run: RunConfig) -> None:
    bench = run.bench
    assert bench is not None
    for recipe in bench.recipes:
        if recipe == "peer":
            raise UserError("bench.recipes=peer: this value is called baseline now")
        among("bench.recipes", recipe, ("baseline", "paper", "fast"))
    among("bench.dtype", bench.dtype, DTYPES)
    for count in bench.num_layers or ():
        within("bench.num_layers", count, 1, run.model.num_layers)


def _distinct_layers(key: str, layers: list[int] | None, depth: int) -> None:
    if layers is not None and (len(set(layers)) < len(layers) or not set(layers) <= set(range(depth))):
        raise UserError(f"{key}={layers}: valid are distinct layers among 0 to {depth - 1}")


def _share(key: str, fraction: float | None) -> None:
    """Refuse a share of nothing; null means that the default is taken."""
    if fraction is not None and not 0 < fraction <= 1:
        raise UserError(f"{key}={fraction:g}: must be above 0 and at most 1")


def _is_positive(text: str | None) -> bool:
    try:
        return 0 < float(text or "") < 10**6
    except ValueError:
        return False
