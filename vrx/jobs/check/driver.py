"""`vrx job=check`: what a run, or a sweep, needs and what it will cost, before a GPU is kept busy with it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.schema import RunConfig
from vrx.config.validate import validate_process_count
from vrx.data import instruction_dataset
from vrx.jobs.check import model_files, preflight
from vrx.jobs.check.model_files import Finding
from vrx.launch.workers import num_processes
from vrx.models.architecture import ParameterCounts, official, parameter_counts
from vrx.runs import files, record
from vrx.runs.layer_selection import select_layers
from vrx.runs.lookup import run_directory, run_identity, run_label
from vrx.runs.run_dir import RunDir
from vrx.training import cost_model
from vrx.training.cost_model import Lengths

UNKNOWN = Lengths(padded=1000, longest=2048, with_image=0.9)  # where the data are not at hand


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one run; None where nothing is known to reckon it from. `measured`: like runs took as long."""

    name: str
    trainable: int
    steps: int
    gpu_hours: float | None
    memory: float
    done: bool
    measured: bool

    def __str__(self) -> str:
        hours = "hours unknown" if self.gpu_hours is None else f"{self.gpu_hours:,.3g} GPU-hours"
        hours = "done" if self.done else f"{hours}{' as like runs took' if self.measured else ''}"
        return (
            f"run  {self.name}: {self.trainable:,} trainable, {self.steps:,} steps, {self.memory:.3g} GB a GPU, {hours}"
        )


def check(run: RunConfig) -> None:
    """Check one run; `UserError` (status 2) where something is bad, after everything was told."""
    together([run])


def together(runs: list[RunConfig]) -> None:
    """Check the runs of a sweep: what they share is looked at and told once."""
    findings: dict[str, bool] = {}
    costs: dict[str, Cost] = {}
    seen: dict[str, Any] = {}

    def once(look: Callable[[], Any], *of: Any) -> Any:
        return seen[repr(of)] if repr(of) in seen else seen.setdefault(repr(of), look())

    def tell(found: Iterable[Finding]) -> None:
        for finding in found:
            if str(finding) not in findings:
                findings[str(finding)] = finding.bad
                print(finding, flush=True)

    for run in runs:
        run = dataclasses.replace(run, job=dataclasses.replace(run.job, name="finetune"))  # whose records lie there
        tell(once(lambda run=run: list(model_files.weights(run.model)), run.model))
        found, table = once(lambda run=run: preflight.data(run), run.instructions)
        tell(found)
        tell(once(lambda run=run: list(preflight.questions(run)), run.benchmark))
        processes, finding = _processes(run)
        tell([finding, *preflight.surroundings(run)])
        shape = parameter_counts(run.model)
        if shape is None:
            why = f"{run.model.name}: neither its config.json nor its published shape is known, so no cost"
            tell([Finding("shape", why)])
        elif shape.backbone.num_layers != run.model.num_layers:
            why = f"{run.model.num_layers}: {run.model.backbone} has {shape.backbone.num_layers}"
            tell([Finding("model.num_layers", why, bad=True)])
        else:
            identity, cost = _cost(run, shape, table, processes)
            costs.setdefault(identity, cost)
    for cost in costs.values():
        print(cost)
    if costs:
        tell([_disk(runs[0], list(costs.values()))])
        _total(runs[0], list(costs.values()))
    if number := sum(findings.values()):
        raise UserError(f"{number} of {len(findings)} things looked at are bad, see the lines that begin with BAD")


def _processes(run: RunConfig) -> tuple[int, Finding]:
    """How many a run gets, and whether that can work."""
    processes = run.runtime.num_gpus or 1
    try:
        processes = num_processes(run.runtime)
        validate_process_count(run, processes)
    except ValueError as error:
        return processes, Finding("processes", str(error), bad=True)
    gpus = preflight.gpus()
    told = f"{processes} on {gpus[0][0] if gpus else 'the CPU, no GPU here'}"
    return processes, Finding("processes", told)


def _cost(run: RunConfig, shape: ParameterCounts, table: Path | None, processes: int) -> tuple[str, Cost]:
    """Identity and cost of a run."""
    lengths, digest = UNKNOWN, ""
    published = official()["instructions"].get(run.model.template, {}).get("conversations", 0)
    num_samples = round(published * run.data_fraction.fraction)
    if table is not None:
        rows = instruction_dataset.open_table(table)
        chosen = instruction_dataset.subset(len(rows), run.data_fraction.fraction, seed=run.seed)
        lengths, num_samples = cost_model.lengths_in_tokens(instruction_dataset.lengths(rows)[chosen], run), len(chosen)
        digest = instruction_dataset.data_digest(run.instructions, table.parent)
    identity = run_identity(run, digest)
    run_dir = run_directory(run, identity, label=run_label(run))
    per_epoch = math.ceil(num_samples / run.train.global_batch_size)
    steps = run.train.max_steps or run.train.epochs * per_epoch
    seconds = record.typical_seconds(run_dir, identity)
    layers = len(select_layers(run))
    if seconds is None:
        total = steps * run.train.global_batch_size * cost_model.sample_flops(shape, layers, lengths, run)
        hours = cost_model.gpu_hours(total, _gpu(run), run.check.expected_mfu) if steps else None
    else:
        hours = seconds * processes / 3600
    return files.digest(identity), Cost(
        f"{run.model.name}/{run_label(run)}",
        shape.trainable_parameters(layers, run.lora.r),
        steps,
        hours,
        cost_model.memory_gigabytes(shape, layers, lengths, run, processes),
        done=RunDir(run_dir).train_summary.is_file(),
        measured=seconds is not None,
    )


def _gpu(run: RunConfig) -> str:
    """The name of the GPU that hours are reckoned for."""
    gpus = preflight.gpus()
    return run.check.gpu or (gpus[0][0] if gpus else "A100")


def _disk(run: RunConfig, costs: list[Cost]) -> Finding:
    root = Path(run.runtime.output_root).absolute()
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    sizes = [cost_model.disk_gigabytes(cost.trainable) for cost in costs if not cost.done]
    needed = sum(kept for kept, _ in sizes) + max((besides for _, besides in sizes), default=0.0)
    told = f"{needed:.3g} GB needed below {root}, {free:,.0f} GB free"
    return Finding("disk", told if needed < free else f"{told}; runtime.output_root=… elsewhere", needed >= free)


def _total(run: RunConfig, costs: list[Cost]) -> None:
    to_do = [cost for cost in costs if not cost.done]
    known = [cost.gpu_hours for cost in to_do if cost.gpu_hours is not None]
    hours = f"{sum(known):,.3g} GPU-hours" if len(known) == len(to_do) else "GPU-hours unknown"
    print(f"total: {len(costs)} runs, {len(to_do)} to train, {hours} (where not measured: of {_gpu(run)})")
    print(f"reckoned so: {cost_model.FORMULA}; expected_mfu={run.check.expected_mfu}")
    gpus, most = preflight.gpus(), max(cost.memory for cost in costs)
    if gpus and most > gpus[0][1]:
        print(f"note: {most:.3g} GB is more than the {gpus[0][1]:.3g} GB of a {gpus[0][0]}: train.micro_batch_size=…")
