"""The estimated cost of runs: trainable parameters, steps, memory, GPU-hours, disk."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.data import run_data
from vrx.data.instructions import instruction_dataset
from vrx.jobs.check.findings import Finding
from vrx.launch.gpus import gpu_models
from vrx.models.architecture import published_facts
from vrx.models.native_facts import Counts, NativeCounts
from vrx.runs import files
from vrx.runs.expected_time import expected_device_hours
from vrx.runs.lookup import finetune_label, locate_finetune
from vrx.runs.run_dir import RunDir
from vrx.training import cost_model
from vrx.training.cost_model import Lengths

DEFAULT_LENGTHS = Lengths(padded=1000, longest=2048, with_image=0.9)  # without instruction data


@dataclass(frozen=True)
class RunCost:
    """The cost of one run; `gpu_hours` is None where neither similar runs nor the GPU's peak are known.

    measured: the hours are those of similar finished runs.
    """

    name: str
    trainable_parameters: int
    steps: int
    gpu_hours: float | None
    memory_gb: float
    done: bool
    measured: bool

    def __str__(self) -> str:
        hours = "hours unknown" if self.gpu_hours is None else f"{self.gpu_hours:,.3g} GPU-hours"
        hours += " (measured on similar runs)" if self.measured else ""
        steps = f"{self.steps:,}" if self.steps else "unknown"
        return (
            f"run  {self.name}: {self.trainable_parameters:,} trainable, {steps} steps, "
            f"{self.memory_gb:.3g} GB per GPU, {'done' if self.done else hours}"
        )


def run_cost(
    run: RunConfig, layers: Sequence[int], shape: Counts, *, table: Path | None, processes: int
) -> tuple[str, RunCost]:
    """Digest of the identity and cost of a run.

    layers: the layers that it tunes. table: the converted instruction data, None where they are missing; the published
    number of samples is used then.
    """
    lengths, num_samples, data_digest = _data(run, table)
    run_dir, identity = locate_finetune(run, layers, data_digest)
    steps = run.train.max_steps or run.train.epochs * math.ceil(num_samples / run.train.global_batch_size)
    num_layers = len(layers)
    hours = measured_hours = expected_device_hours(run_dir, identity, run.runtime.results_paths)
    if hours is None and steps:
        flops = steps * run.train.global_batch_size * cost_model.sample_flops(shape, num_layers, lengths, run)
        hours = cost_model.gpu_hours(flops, gpu_name(run), required(run.check).expected_mfu)
    return files.digest(identity), RunCost(
        f"{run.model.name}/{finetune_label(run, num_layers)}",
        shape.trainable_parameters(num_layers, run.lora),
        steps,
        hours,
        cost_model.memory_gigabytes(shape, num_layers, lengths, run, processes),
        done=RunDir(run_dir).train_summary.is_file(),
        measured=measured_hours is not None,
    )


def _data(run: RunConfig, table: Path | None) -> tuple[Lengths, int, str]:
    """Sample lengths, number of samples and digest of the instruction data."""
    if table is None:
        published = published_facts()["instructions"].get(run.model.template, {}).get("conversations", 0)
        longest = min(DEFAULT_LENGTHS.longest, run.model.max_length)
        lengths = Lengths(min(DEFAULT_LENGTHS.padded, longest), longest, DEFAULT_LENGTHS.with_image)
        return lengths, round(published * run.data_fraction.fraction), ""
    rows, words = run_data.open_rows(run, table)
    subset = instruction_dataset.draw_subset(len(rows), run.data_fraction.fraction, seed=run.seed)
    lengths = cost_model.lengths_in_tokens(words[subset], run)
    return lengths, len(subset), run_data.digest(run, table.parent)


def sizes(counts: NativeCounts) -> Finding:
    """The parameters of a model that is one checkpoint, by where they are, and the kinds of its layers."""
    parts = ", ".join(f"{number:,} {kind}" for kind, number in counts.by_kind.items())
    kinds = ", ".join(f"{number} of {kind}" for kind, number in Counter(counts.kinds).items())
    return Finding("parameters", f"{counts.parameters:,}: {parts}; layers: {kinds}")


def gpu_name(run: RunConfig) -> str:
    """The GPU that hours are estimated for: `check.gpu`, that of this machine, or an A100."""
    gpus = gpu_models()
    return required(run.check).gpu or (gpus[0].name if gpus else "A100")


def disk_space(run: RunConfig, costs: Sequence[RunCost]) -> Finding:
    """Whether the results of all runs fit below the output root."""
    root = run.runtime.output_path
    existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free / 1e9
    sizes = [cost_model.disk_gigabytes(cost.trainable_parameters) for cost in costs if not cost.done]
    needed = sum(permanent for permanent, _ in sizes) + max((temporary for _, temporary in sizes), default=0.0)
    message = f"{needed:.3g} GB needed below {root}, {free:,.0f} GB free"
    return Finding("disk", message if needed < free else f"{message}; set runtime.output_root", needed >= free)


def totals(run: RunConfig, costs: Sequence[RunCost]) -> list[str]:
    """Lines with the sum of all runs, how it was estimated, and whether the memory suffices."""
    to_do = [cost for cost in costs if not cost.done]
    known = [cost.gpu_hours for cost in to_do if cost.gpu_hours is not None]
    hours = f"{sum(known):,.3g} GPU-hours" if len(known) == len(to_do) else "GPU-hours unknown"
    runs = f"{len(costs)} run{'' if len(costs) == 1 else 's'}"
    lines = [
        f"total: {runs}, {len(to_do)} to train, {hours} (estimates are for {gpu_name(run)})",
        f"estimate: {cost_model.FORMULA}; check.expected_mfu={required(run.check).expected_mfu}",
    ]
    gpus, largest = gpu_models(), max(cost.memory_gb for cost in costs)
    if gpus and largest > gpus[0].memory_gb:
        limit = f"the {gpus[0].memory_gb:.3g} GB of a {gpus[0].name}"
        lines.append(f"note: {largest:.3g} GB is more than {limit}; lower train.micro_batch_size")
    return lines
