"""What a reader wants to know first: what was run, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vrx.report.collect import Run

KINDS = {
    "fine-tune": lambda run: run.is_tuned,
    "pre-training": lambda run: run.is_pretraining,
    "untouched model": lambda run: run.is_untouched,
    "model by its answers alone": lambda run: run.is_from_elsewhere,
    "reversion": lambda run: run.reverted is not None,
    "pruning": lambda run: run.pruned is not None,
}


def facts(runs: Sequence[Run]) -> dict[str, str]:
    """What was run, in a few numbers."""
    counts = {name: sum(map(is_kind, runs)) for name, is_kind in KINDS.items()}
    models = Counter(run.model for run in runs)
    benchmarks = {name for run in runs for name in run.record.scores}
    seeds = {run.seed for run in runs if run.seed is not None}
    questions = sum(entry.num_samples for run in runs for entry in run.record.scores.values())
    return {
        "runs": ", ".join(_counted(number, name) for name, number in counts.items() if number) or "none",
        "models": ", ".join(f"{model} ({_counted(number, 'run')})" for model, number in sorted(models.items())),
        "seeds": ", ".join(map(str, sorted(seeds))) or "none",
        "benchmarks": f"{len(benchmarks)}, {questions:,} answers scored",
        "training": _training_cost(runs),
    }


def _counted(number: int, name: str) -> str:
    first, _, rest = name.partition(" by its")
    return f"1 {name}" if number == 1 else f"{number} {first}s" + (f" by their{rest}" if rest else "")


def _training_cost(runs: Sequence[Run]) -> str:
    """The sum over all runs, in GPU-hours where there was a GPU."""
    hours = sum(run.train.gpu_hours or 0.0 for run in runs)
    seconds = sum(run.train.seconds or 0.0 for run in runs)
    flops = sum(run.train.flops or 0.0 for run in runs)
    time = f"{hours:.1f} GPU-hours" if hours else f"{seconds / 3600:.1f} hours without a GPU"
    return f"{time}, {flops / 1e15:.3g} PFLOPs" if flops else time
