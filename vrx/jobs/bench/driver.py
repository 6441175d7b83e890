"""`vrx bench`: what a training step costs by recipe and number of layers, next to a baseline."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from typing import Any

from vrx.config.errors import UserError
from vrx.config.frozen import freeze
from vrx.config.job_options import required
from vrx.config.paths import below
from vrx.config.schema import RunConfig
from vrx.data.instructions import instruction_dataset
from vrx.jobs.bench import results
from vrx.jobs.bench.files import BenchDir, SyntheticInputs, inference_file
from vrx.jobs.bench.results import VariantCost
from vrx.jobs.bench.synthetic_run import MIXED_LENGTHS, lengths_of_data, make_synthetic_run
from vrx.jobs.bench.variants import BASELINE, layer_counts, variants
from vrx.launch.gpus import gpu_models
from vrx.launch.logging import log
from vrx.launch.workers import launch, num_processes
from vrx.models.architecture import parameter_counts
from vrx.report.paper import load_paper
from vrx.runs import files
from vrx.runs.locks import exclusive_lock
from vrx.runs.provenance import current_provenance
from vrx.runs.run_dir import RunDir
from vrx.runs.train_summary import read_train_summary
from vrx.runs.typed_json import to_json
from vrx.training.flops import Workload, step_flops


def bench(run: RunConfig) -> None:
    """Measure all variants in turn, several rounds; write table, numbers and figure, and print the table."""
    bench_dir = BenchDir(below(run.runtime.output_path, "bench", run.model.name))
    with exclusive_lock(bench_dir.path):
        data_lengths, num_samples = lengths_of_data(run)
        lengths = required(run.bench).lengths or data_lengths
        full_size = full_size_flops(run, lengths or list(MIXED_LENGTHS))
        synthetic = make_synthetic_run(run, bench_dir, lengths)
        costs = _measure_training(synthetic, bench_dir)
        inference = _measure_inference(synthetic, bench_dir) if required(run.bench).inference else {}
        about = f"{_description(synthetic, bench_dir)}, {_origin_of_lengths(run, lengths)}"
        steps = run.train.epochs * math.ceil(num_samples / run.train.global_batch_size)
        is_full_size = SyntheticInputs.read(bench_dir.inputs).is_full_size
        table = results.results_table(
            costs,
            inference,
            about=f"{about}. {_full_size_saving(full_size, layer_counts(run))}",
            full_run=num_processes(run.runtime) * steps if is_full_size else None,
        )
        figure3 = load_paper().artifacts["figure3"]
        plot = results.results_figure(costs, figure3, model=run.model.name, about=about, full_size=full_size)
        files.write_atomic(bench_dir.result("md"), table)
        files.write_atomic(bench_dir.result("png"), plot.draw("png"))
        numbers = {"about": about, "training": [dataclasses.asdict(cost) for cost in costs], "inference": inference}
        files.write_json(bench_dir.result("json"), numbers | {"provenance": to_json(current_provenance())})
    print(table)
    print(f"numbers: {bench_dir.result('json')}; figure: {bench_dir.result('png')}")


def full_size_flops(run: RunConfig, lengths: list[int]) -> dict[int, float]:
    """FLOPs of a typical sample in the model's real size, by number of tuned layers."""
    shape = parameter_counts(run.model)
    if shape is None:
        raise UserError(f"model={run.model.name}: unknown shape; valid: a model whose config.json is on this machine")
    lengths = [min(length, run.model.max_length) for length in lengths]
    load = Workload(
        sum(lengths), sum(n * n for n in lengths), round(required(run.bench).supervised * sum(lengths)), len(lengths)
    )
    depth = run.model.num_layers
    counts = sorted({1, depth // 4, depth // 2, depth, *layer_counts(run)})
    return {k: step_flops(load, shape, num_layers=k, lora=run.lora) / len(lengths) for k in counts if k <= depth}


def _measure_training(run: RunConfig, bench_dir: BenchDir) -> list[VariantCost]:
    """The cost of every variant; the variants take turns, so that all meet the machine in the same state."""
    costs: dict[tuple[str, int], VariantCost] = {}
    plan = list(variants(run))
    for round_number in range(required(run.bench).rounds):
        for index, (variant, config) in enumerate(plan):
            k = len(config.selector.layers or ())
            progress = f"round {round_number + 1} of {required(run.bench).rounds}, {index + 1} of {len(plan)}"
            log(f"{progress}: {variant}, {k} layers")
            cost = costs.setdefault((variant, k), VariantCost(variant, k))
            _measure(config, bench_dir, cost)
    return list(costs.values())


def _measure(run: RunConfig, bench_dir: BenchDir, cost: VariantCost) -> None:
    """Train a few steps of one variant, and add the measurements to its cost."""
    run_dir = bench_dir.variant(cost.variant, cost.num_layers)
    shutil.rmtree(run_dir, ignore_errors=True)
    digest = instruction_dataset.data_digest(run.instructions)
    table = instruction_dataset.build_table(run.instructions, bench_dir.data, digest=digest)
    files.write_json(RunDir(run_dir).data, {"table": str(table), "sha256": digest})
    files.write_atomic(RunDir(run_dir).config, freeze(run))
    launch("train_baseline" if cost.variant == BASELINE else "train", run_dir, run.runtime)
    summary = read_train_summary(RunDir(run_dir).train_summary)
    rows = files.read_json_lines(RunDir(run_dir).train_log)[required(run.bench).warmup :]
    cost.seconds += [row["seconds"] for row in rows]
    cost.tokens = sum(row["tokens"] for row in rows) / len(rows)
    cost.flops = sum(row["flops"] for row in rows) / len(rows)
    cost.seconds_waiting_for_data = sum(row["seconds_waiting_for_data"] for row in rows) / len(rows)
    assert summary.peak_flops_per_second is not None and summary.peak_memory_gb is not None
    cost.matmul_flops_per_second.append(summary.peak_flops_per_second)
    cost.peak_memory_gb = max(cost.peak_memory_gb, summary.peak_memory_gb)
    cost.switches = summary.execution or {}
    shutil.rmtree(RunDir(run_dir).adapter, ignore_errors=True)


def _measure_inference(run: RunConfig, bench_dir: BenchDir) -> dict[str, Any]:
    files.write_atomic(bench_dir.inference / "config.yaml", freeze(run))
    launch("measure_inference", bench_dir.inference, run.runtime)
    return files.read_json(inference_file(bench_dir.inference))


def _description(run: RunConfig, bench_dir: BenchDir) -> str:
    shape = parameter_counts(run.model)
    assert shape is not None, "checked by full_size_flops"
    backbone, train = shape.backbone, run.train
    lengths = SyntheticInputs.read(bench_dir.inputs).lengths
    positions = str(lengths[0]) if len(lengths) == 1 else f"{min(lengths)} to {max(lengths)}"
    gpus = gpu_models()
    machine = f"{len(gpus)} x {gpus[0].name}" if gpus else f"{os.cpu_count()} CPU cores"
    processes = num_processes(run.runtime)
    return (
        f"{run.model.name}: {backbone.num_layers} layers of width {backbone.hidden} (MLP {backbone.intermediate}), "
        f"vocabulary of {backbone.vocabulary:,}, LoRA of rank {run.lora.r}; {train.global_batch_size} samples of "
        f"{positions} positions per step, {100 * required(run.bench).supervised:g} % supervised, {train.dtype}, "
        f"{machine}{f', {processes} processes' if processes > 1 else ''}"
    )


def _origin_of_lengths(run: RunConfig, lengths: list[int] | None) -> str:
    if required(run.bench).lengths:
        return "lengths from bench.lengths"
    return f"lengths from {run.instructions.path}" if lengths else "synthetic lengths"


def _full_size_saving(full_size: dict[int, float], counts: list[int]) -> str:
    few, all_layers = min(counts), full_size[max(full_size)]
    return (
        f"In full size a typical sample needs {all_layers / 1e12:.3g} TFLOPs with all layers tuned and "
        f"{100 * (1 - full_size[few] / all_layers):.1f} % less with {few}"
    )
