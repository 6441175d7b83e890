"""The columns of the list of runs on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vrx.report.collect import Run
from vrx.report.run_summary import accuracy_benchmarks, mean_chance, mean_score
from vrx.runs.layer_selection import format_layers


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _without_layers(run: Run) -> str:
    return "unknown" if run.is_from_elsewhere else "projector" if run.is_pretraining else "untouched"


RUN_COLUMNS: Mapping[str, Callable[[Run], object]] = {
    "model": lambda run: run.model,
    "layers": lambda run: format_layers(run.record.layers) or _without_layers(run),
    "number of layers": lambda run: len(run.layers),
    "data (%)": lambda run: 100 * run.fraction if run.is_tuned or run.is_pretraining else None,
    "seed": lambda run: run.seed,
    "mean score (%)": lambda run: _percent(mean_score(run.record, accuracy_benchmarks(run.record))),
    "chance (%)": lambda run: _percent(mean_chance([run.record.scores[n] for n in accuracy_benchmarks(run.record)])),
    "benchmarks": lambda run: len(run.record.scores),
    "steps": lambda run: run.train.steps,
    "seconds": lambda run: run.train.seconds,
    "GPU-hours": lambda run: run.train.gpu_hours,
    "tokens/s": lambda run: run.train.tokens_per_second,
    "MFU (%)": lambda run: _percent(run.train.mfu),
    "waiting for data (s)": lambda run: run.train.seconds_waiting_for_data,
    "peak memory (GB)": lambda run: run.train.peak_memory_gb,
    "trainable parameters": lambda run: run.train.trainable_parameters,
    "final loss": lambda run: run.train.final_loss,
    "commit": lambda run: run.git_commit[:10],
}
