"""What the terminal shows of one finished run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vrx.config.shuffled_images import LABEL, is_shuffled, plain_name
from vrx.runs.record import Record, ScoreEntry


def format_run_summary(record: Record, all_layers: Record | None) -> str:
    """A run's scores, a line each in percent with their standard errors and chance levels, and their average.

    all_layers: the record of the run that tunes all layers; the average is also given in percent of its average.
    Log-likelihood benchmarks show their perplexities.
    """
    names = accuracy_benchmarks(record)
    lines = _score_lines(record, names)
    mean = mean_score(record, names)
    reference = mean_score(all_layers, names) if all_layers else None
    if mean is not None and reference:
        lines.append(("of all layers", f"{100 * mean / reference:.2f}"))
    lines += _score_lines(record, [name for name in record.scores if is_shuffled(name)], label=LABEL)
    for name, entry in record.scores.items():
        if entry.perplexity is not None:
            token, word = entry.perplexity["token"], entry.perplexity["word"]
            lines.append((name, f"perplexity {token:.4g} by token, {word:.4g} by word"))
    tuned = f"layers {', '.join(map(str, record.layers))}" if record.layers else _untuned(record)
    width = max((len(name) for name, _ in lines), default=0)
    header = f"{record.model.name}, {tuned}  (percent)"
    return "\n".join([header, *(f"  {name:<{width}}  {value}" for name, value in lines)])


def _untuned(record: Record) -> str:
    return "answers from elsewhere" if record.is_from_elsewhere else "untouched"


def _score_lines(record: Record, names: Sequence[str], *, label: str = "") -> list[tuple[str, str]]:
    """A line for each of these benchmarks, and one for their average."""
    answered = {name: record.scores[name] for name in names if record.scores[name].perplexity is None}
    lines = [
        (plain_name(name) + label, _line(entry.value, entry.stderr, entry.chance)) for name, entry in answered.items()
    ]
    entries = list(answered.values())
    if entries:
        mean = math.fsum(entry.value for entry in entries) / len(entries)
        lines.append((f"average{label}", _line(mean, mean_stderr(entries), mean_chance(entries))))
    return lines


def _line(value: float, stderr: float, chance: float | None) -> str:
    score = f"{100 * value:.2f} ±{100 * stderr:.2f}"
    return score if chance is None else f"{score:<13} chance {100 * chance:.2f}"


def mean_stderr(entries: Sequence[ScoreEntry]) -> float:
    """The standard error of the mean of several benchmarks' scores, over their questions; at least one benchmark."""
    return math.sqrt(math.fsum(entry.stderr**2 for entry in entries)) / len(entries)


def mean_chance(entries: Sequence[ScoreEntry]) -> float | None:
    """The mean chance level of several benchmarks; None where one has none."""
    levels = [entry.chance for entry in entries if entry.chance is not None]
    return sum(levels) / len(levels) if levels and len(levels) == len(entries) else None


def mean_score(record: Record, names: Sequence[str]) -> float | None:
    """Mean score of the named benchmarks, in [0, 1]; None where the record lacks one."""
    values = [record.scores[name].value for name in names if name in record.scores]
    return sum(values) / len(values) if values and len(values) == len(names) else None


def accuracy_benchmarks(record: Record) -> list[str]:
    """The benchmarks of a record with a score of answers: all but log-likelihoods, and no control of another one."""
    return [name for name, entry in record.scores.items() if entry.perplexity is None and not is_shuffled(name)]
