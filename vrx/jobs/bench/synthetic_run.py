"""The run that is measured: the model's shape with random weights and synthetic samples, narrower on a CPU."""

from __future__ import annotations

import dataclasses
import shutil

from vrx.config.frozen import freeze
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.config.validate import validate_process_count
from vrx.data.instructions import instruction_dataset
from vrx.jobs.bench.files import BenchDir, SyntheticInputs
from vrx.launch.gpus import count_gpus
from vrx.launch.workers import launch, num_processes
from vrx.models.architecture import parameter_counts, published_facts
from vrx.models.fit import WITH_CLASS_TOKEN
from vrx.runs import files
from vrx.runs.locks import shared_resource_lock
from vrx.training import cost_model

CPU_SCALE = 8  # on a CPU the widths of a large LVLM are divided by it
SMALL_WIDTH = 1024  # a hidden size below it is small: measured unscaled
MIXED_LENGTHS = (640, 660, 680, 700, 720, 740, 760, 780, 800, 840, 900, 960, 1040, 1200, 1500, 2048)  # in LLaVA's range
NUM_LENGTHS = 64  # quantiles that stand for the lengths of instruction data


def lengths_of_data(run: RunConfig) -> tuple[list[int] | None, int]:
    """Typical sample lengths of the configured instruction data, and the number of samples of a full run.

    The lengths are None without instruction data; the number is then that of the published data.
    """
    published = published_facts()["instructions"].get(run.model.template, {}).get("conversations", 0)
    if run.world is not None or run.instructions.path is None:
        return None, round(published * run.data_fraction.fraction)
    cache = run.runtime.output_path / "data"
    digest = instruction_dataset.data_digest(run.instructions, cache)
    lenient = dataclasses.replace(run.instructions, on_bad_image="skip")
    with shared_resource_lock(cache / "instructions"):
        table = instruction_dataset.build_table(lenient, cache, digest=digest)
    words = instruction_dataset.word_counts(instruction_dataset.open_table(table))
    return cost_model.usual_lengths(words, run, NUM_LENGTHS), round(len(words) * run.data_fraction.fraction)


def make_synthetic_run(run: RunConfig, bench_dir: BenchDir, lengths: list[int] | None) -> RunConfig:
    """The run on random weights and synthetic samples, which are written now unless they exist already.

    An LVLM that comes with the package keeps its weights. `UserError`, and nothing is written, where the processes
    cannot share the global batch.
    """
    scale = _scale(run)
    embedded = scale == 1 and run.world is not None
    inputs = _inputs(run, scale, lengths, embedded=embedded)
    synthetic = _narrowed(run, bench_dir, inputs, embedded=embedded)
    validate_process_count(synthetic, num_processes(run.runtime))
    _write_inputs(synthetic, bench_dir, inputs)
    return synthetic


def _scale(run: RunConfig) -> int:
    if scale := required(run.bench).scale:
        return scale
    shape = parameter_counts(run.model)
    assert shape is not None, "checked by full_size_flops"
    return CPU_SCALE if not count_gpus() and shape.backbone.hidden >= SMALL_WIDTH else 1


def _inputs(run: RunConfig, scale: int, lengths: list[int] | None, *, embedded: bool) -> SyntheticInputs:
    is_full_size = scale == 1 and not embedded
    lengths = lengths or (list(MIXED_LENGTHS) if is_full_size else [256])
    size = _batch_sizes(run, is_full_size=is_full_size, embedded=embedded)[1]
    steps = required(run.bench).warmup + required(run.bench).steps
    return SyntheticInputs(
        like=None if embedded else dataclasses.asdict(run.model),
        scale=scale,
        lengths=tuple(lengths),
        num_samples=max(size * steps, run.eval.batch_size, len(lengths)),
        supervised=required(run.bench).supervised,
        dtype=required(run.bench).dtype or (run.train.dtype if count_gpus() else "float32"),
        template=run.model.template if embedded else "tiny",
        is_full_size=is_full_size,
    )


def _batch_sizes(run: RunConfig, *, is_full_size: bool, embedded: bool) -> tuple[int, int]:
    """Micro-batch and global batch: those of the run in full size, else one small micro-batch of each process."""
    if is_full_size:
        return run.train.micro_batch_size, run.train.global_batch_size
    size = run.train.micro_batch_size if embedded else 4
    return size, size * num_processes(run.runtime)


def _narrowed(run: RunConfig, bench_dir: BenchDir, inputs: SyntheticInputs, *, embedded: bool) -> RunConfig:
    model, lora = run.model, run.lora
    if not embedded:
        parts = {name: str(bench_dir.parts / name) for name in ("backbone", "vision_tower", "projector")}
        tokens = {"tokenizer": "vrx:tiny/weights", "template": inputs.template, "image_token": "<|image|>"}
        keeps_class_token = model.image_processor in WITH_CLASS_TOKEN and model.vision_feature_select_strategy == "full"
        num_image_tokens = model.num_image_tokens if inputs.is_full_size else 64 + keeps_class_token
        model = dataclasses.replace(model, **parts, **tokens, num_image_tokens=num_image_tokens, lvlm=None)
        lora = dataclasses.replace(lora, r=lora.r // inputs.scale, alpha=lora.alpha // inputs.scale)
    micro, size = _batch_sizes(run, is_full_size=inputs.is_full_size, embedded=embedded)
    train = dataclasses.replace(
        run.train,
        micro_batch_size=micro,
        global_batch_size=size,
        dtype=inputs.dtype,
        max_steps=required(run.bench).warmup + required(run.bench).steps,
        epochs=1,
    )
    path, images = str(bench_dir.instructions), str(bench_dir.images)
    return dataclasses.replace(
        run,
        model=model,
        train=train,
        lora=lora,
        instructions=dataclasses.replace(run.instructions, path=path, image_folder=images),
        runtime=dataclasses.replace(run.runtime, checkpoint_every=10**9),
        world=None,
        benchmark={},
    )


def _write_inputs(run: RunConfig, bench_dir: BenchDir, inputs: SyntheticInputs) -> None:
    if bench_dir.inputs.is_file() and SyntheticInputs.read(bench_dir.inputs) == inputs:
        return
    for folder in (bench_dir.parts, bench_dir.data):
        shutil.rmtree(folder, ignore_errors=True)
    bench_dir.inputs.unlink(missing_ok=True)
    inputs.write(bench_dir.requested_inputs)
    files.write_atomic(bench_dir.config, freeze(run))
    launch("write_synthetic_inputs", bench_dir.path, run.runtime)
