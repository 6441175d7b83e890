"""`vrx job=bench`: what a training step costs by recipe and number of layers, beside a peer, measured in turn."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path
from typing import Any

from vrx.config.frozen import freeze
from vrx.config.schema import RunConfig
from vrx.data import instruction_dataset
from vrx.jobs.bench import results
from vrx.jobs.bench.results import Cost
from vrx.jobs.bench.variants import layer_counts, variants
from vrx.jobs.check import preflight
from vrx.launch.gpus import count_gpus
from vrx.launch.logging import log
from vrx.launch.workers import launch, num_processes
from vrx.models.architecture import official, parameter_counts
from vrx.report import paper, plots
from vrx.runs import files, provenance
from vrx.runs.locks import exclusive_lock, shared_resource_lock
from vrx.training import cost_model
from vrx.training.flops import Workload, step_flops

NARROW = 8  # an LVLM's widths on a CPU, unless it is small already
SMALL = 1024  # wide
MIX = [640, 660, 680, 700, 720, 740, 760, 780, 800, 840, 900, 960, 1040, 1200, 1500, 2048]  # made up, in LLaVA's range
NUM_LENGTHS = 64  # that stand for those of instruction data


def bench(run: RunConfig) -> None:
    """Measure all ways in turn, several rounds; leave the table, the numbers and a figure, and print the table."""
    root = Path(run.runtime.output_root).absolute() / "bench" / run.model.name
    with exclusive_lock(root):
        found_lengths, num_samples = data(run)
        lengths = run.bench.lengths or found_lengths
        needed = _full_size(run, lengths or MIX)
        origin = "as asked" if run.bench.lengths else f"of {run.instructions.path}" if lengths else "made up"
        steps = run.train.epochs * math.ceil(num_samples / run.train.global_batch_size)
        run = _furnished(run, root, lengths)
        found: dict[str, Cost] = {}
        inference: dict[str, Any] = {}
        plan = list(variants(run))
        for number in range(run.bench.rounds):
            for place, (way, one) in enumerate(plan):
                k = len(one.selector.layers or ())
                log(f"round {number + 1} of {run.bench.rounds}, {place + 1} of {len(plan)}: {way}, {k} layers")
                _measure(one, root / f"{way.replace(' ', '_')}-{k}", found.setdefault(f"{way} {k}", Cost(way, k)))
        if run.bench.inference:
            folder = root / "inference"
            files.write_atomic(folder / "config.yaml", freeze(run))
            launch("infer", folder, run.runtime)
            inference = files.read_json(folder / "inference.json")
        about = f"{_about(run, root)}, lengths {origin}"
        every = list(found.values())
        about_all = f"{about}. {_needs(needed, layer_counts(run))}"
        is_full_size = files.read_json(root / "made.json")["is_full_size"]
        full_run = num_processes(run.runtime) * steps if is_full_size else None
        told = results.results_table(every, inference, about=about_all, full_run=full_run)
        artefact = paper.load().artefacts["figure3"]
        plot = results.results_figure(every, artefact, model=run.model.name, about=about, full_size=needed)
        files.write_atomic(root / "bench.md", told)
        files.write_atomic(root / "bench.png", plots.draw(plot, "png"))
        named = {"about": about, "training": [dataclasses.asdict(cost) for cost in every], "inference": inference}
        files.write_json(root / "bench.json", named | {"provenance": provenance.provenance()})
    print(told)
    print(f"numbers: {root / 'bench.json'}; figure: {root / 'bench.png'}")


def data(run: RunConfig) -> tuple[list[int] | None, int]:
    """How long samples are in the instruction data that are named, None where there are none, and the number of samples
    of a full run."""
    published = official()["instructions"].get(run.model.template, {}).get("conversations", 0)
    if run.world is not None or run.instructions.path is None:
        return None, round(published * run.data_fraction.fraction)
    cache = Path(run.runtime.output_root).absolute() / "data"
    digest = instruction_dataset.data_digest(run.instructions, cache)
    lenient = dataclasses.replace(run.instructions, on_bad_image="skip")
    with shared_resource_lock(cache / "instructions"):
        table = instruction_dataset.table(lenient, cache, digest=digest)
    words = instruction_dataset.lengths(instruction_dataset.open_table(table))
    return cost_model.usual_lengths(words, run, NUM_LENGTHS), round(len(words) * run.data_fraction.fraction)


def _furnished(run: RunConfig, root: Path, lengths: list[int] | None) -> RunConfig:
    """The run with weights and samples that are made now, where those there are others."""
    shape = parameter_counts(run.model)
    assert shape is not None, "_full_size refuses such a model"
    narrow = NARROW if not count_gpus() and shape.backbone.hidden >= SMALL else 1
    scale = run.bench.scale or narrow
    own = scale == 1 and run.world is not None  # an LVLM that comes with the package
    is_narrow = scale > 1 or own
    model = run.model
    if not own:
        places = {name: str(root / "parts" / name) for name in ("backbone", "vision_tower", "projector")}
        tokens = {"tokenizer": "vrx:tiny/weights", "template": "tiny", "image_token": "<|image|>"}
        images = 64 if is_narrow else model.num_image_tokens
        model = dataclasses.replace(model, **places, **tokens, num_image_tokens=images, lvlm=None)
    lengths = lengths or ([256] if is_narrow else MIX)
    train = run.train
    if is_narrow:
        size = 4 if not own else train.micro_batch_size
        train = dataclasses.replace(train, micro_batch_size=size, global_batch_size=size)
    train = dataclasses.replace(train, dtype=run.bench.dtype or (train.dtype if count_gpus() else "float32"))
    lora = run.lora if own else dataclasses.replace(run.lora, r=run.lora.r // scale, alpha=run.lora.alpha // scale)
    data = dataclasses.replace(
        run.instructions,
        path=str(root / "data" / "instructions.json"),
        image_folder=str(root / "data" / "images"),
    )
    steps = run.bench.warmup + run.bench.steps
    train = dataclasses.replace(train, max_steps=steps, epochs=1)
    runtime = dataclasses.replace(run.runtime, checkpoint_every=10**9)
    made = dataclasses.replace(
        run, model=model, train=train, lora=lora, instructions=data, runtime=runtime, world=None, benchmark={}
    )
    like = None if own else dataclasses.asdict(run.model)
    number = max(train.global_batch_size * steps, run.eval.batch_size, len(lengths))
    wanted = {"like": like, "scale": scale, "lengths": list(lengths), "num_samples": number}
    wanted |= {"supervised": run.bench.supervised, "dtype": train.dtype, "template": model.template}
    wanted |= {"is_full_size": not is_narrow}
    if not (root / "made.json").is_file() or files.read_json(root / "made.json") != wanted:
        for old in ("parts", "data", "made.json"):
            shutil.rmtree(root / old, ignore_errors=True)
        files.write_json(root / "wanted.json", wanted)
        files.write_atomic(root / "config.yaml", freeze(made))
        launch("furnish", root, run.runtime)
    return made


def _measure(run: RunConfig, run_dir: Path, cost: Cost) -> None:
    """Train some steps one way, and add what was measured."""
    root = run_dir.parent
    shutil.rmtree(run_dir, ignore_errors=True)
    digest = instruction_dataset.data_digest(run.instructions)
    table = instruction_dataset.table(run.instructions, root / "data", digest=digest)
    files.write_json(run_dir / "data.json", {"table": str(table), "sha256": digest})
    files.write_atomic(run_dir / "config.yaml", freeze(run))
    launch("peer" if cost.way == "peer" else "train", run_dir, run.runtime)
    told = files.read_json(run_dir / "train.json")
    rows = files.read_json_lines(run_dir / "train.jsonl")[run.bench.warmup :]
    cost.seconds += [row["seconds"] for row in rows]
    cost.tokens = sum(row["tokens"] for row in rows) / len(rows)
    cost.operations = sum(row["operations"] for row in rows) / len(rows)
    cost.waiting = sum(row["seconds_waiting_for_data"] for row in rows) / len(rows)
    cost.ceilings.append(told["operations_per_second"] / told["share_of_ceiling"])
    cost.peak_memory_gb = max(cost.peak_memory_gb, told["peak_memory_gb"])
    cost.how = told.get("how", {})
    shutil.rmtree(run_dir / "adapter", ignore_errors=True)


def _full_size(run: RunConfig, lengths: list[int]) -> dict[int, float]:
    """Operations of a sample of usual length in the model's own size, by number of layers tuned."""
    shape = parameter_counts(run.model)
    if shape is None:
        raise ValueError(f"model={run.model.name}: its shape is not known; valid is a model whose config.json is here")
    lengths = [min(length, run.model.max_length) for length in lengths]
    load = Workload(sum(lengths), sum(n * n for n in lengths), round(run.bench.supervised * sum(lengths)), len(lengths))
    depth = run.model.num_layers
    numbers = sorted({1, depth // 4, depth // 2, depth, *layer_counts(run)})
    return {k: step_flops(load, shape, num_layers=k, r=run.lora.r) / len(lengths) for k in numbers if k <= depth}


def _about(run: RunConfig, root: Path) -> str:
    shape = parameter_counts(run.model)
    assert shape is not None
    backbone, train = shape.backbone, run.train
    lengths = files.read_json(root / "made.json")["lengths"]
    places = str(lengths[0]) if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)}"
    return (
        f"{run.model.name}: {backbone.num_layers} layers of width {backbone.hidden} ({backbone.intermediate} inside), "
        f"{backbone.vocabulary:,} words, LoRA of rank {run.lora.r}; {train.global_batch_size} samples of {places} "
        f"positions a step, {100 * run.bench.supervised:g} % supervised, {train.dtype}, {_machine()}"
    )


def _machine() -> str:
    gpus = preflight.gpus()
    return f"{len(gpus)} x {gpus[0][0]}" if gpus else f"{os.cpu_count()} CPU cores"


def _needs(full_size: dict[int, float], numbers: list[int]) -> str:
    few, whole = min(numbers), full_size[max(full_size)]
    return (
        f"In full size a sample of usual length needs {whole / 1e12:.3g} TFLOP with all layers tuned, "
        f"{100 * (1 - full_size[few] / whole):.1f} % less with {few}"
    )
