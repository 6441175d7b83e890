"""One cell of a table as numbers: the mean over its runs, its uncertainty, and what the paper prints."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vrx.metrics.aggregate import standard_error
from vrx.report.bootstrap import Difference, pair_scores, paired_bootstrap
from vrx.report.collect import Run
from vrx.report.paper import Artifact, Erratum, PaperRow
from vrx.report.question_scores import QuestionScores

SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Cell:
    """Our number, in percent, and the paper's.

    value: the mean over seeds. error: its standard error, over questions of a single run, over seeds of several. share:
    percent of the row with all layers; versus: the difference from it. published: as printed; difference: value minus
    the published number, or minus the recomputed one where that is a misprint.
    """

    value: float | None = None
    error: float | None = None
    num_seeds: int = 0
    num_samples: int | None = None
    share: float | None = None
    versus: Difference | None = None
    published: float | None = None
    difference: float | None = None
    erratum: Erratum | None = None


def measured_cell(
    columns: Sequence[str], runs: Sequence[Run], all_layers: Sequence[Run], scores: QuestionScores, *, compare: bool
) -> Cell:
    """The mean over these benchmarks, of the runs that have them all.

    compare: also test the difference from the runs with all layers.
    """
    values, errors, num_samples = _values(runs, columns)
    base, _, _ = _values(all_layers, columns)
    if not values:
        return Cell()
    value = statistics.fmean(values)
    return Cell(
        value=value,
        error=standard_error(values) if len(values) > 1 else errors[0],
        num_seeds=len(values),
        num_samples=num_samples,
        share=100 * value / statistics.fmean(base) if any(base) else None,
        versus=_difference(columns, runs, all_layers, scores) if compare else None,
    )


def with_published(cell: Cell, artifact: Artifact, row: PaperRow, column: str) -> Cell:
    """The cell with what the paper prints there."""
    totals = {"average": row.average, "share": row.share}
    published = totals[column] if column in totals else row.values[artifact.columns.index(column)]
    erratum = artifact.erratum(row, column)
    right = published if erratum is None or erratum.recomputed is None else erratum.recomputed
    difference = None if cell.value is None or right is None else cell.value - right
    return dataclasses.replace(cell, published=published, difference=difference, erratum=erratum)


def _difference(
    columns: Sequence[str], runs: Sequence[Run], all_layers: Sequence[Run], scores: QuestionScores
) -> Difference | None:
    """The paired bootstrap, of the seeds that both rows have (of all, where they share none)."""
    sides = [runs_with(columns, side) for side in (runs, all_layers)]
    shared_seeds = set.intersection(*({run.seed for run in side} for side in sides))
    sides = [[run for run in side if run.seed in shared_seeds] or side for side in sides]
    pairs = []
    for column in columns:
        pair = pair_scores(*([scores_of(run, column, scores) for run in side] for side in sides))
        if pair is None:
            return None
        pairs.append(pair)
    difference = paired_bootstrap(pairs, SEED)
    return Difference(100 * difference.value, 100 * difference.low, 100 * difference.high, difference.p)


def _values(runs: Sequence[Run], columns: Sequence[str]) -> tuple[list[float], list[float], int | None]:
    """Of each run that has all columns the mean and its standard error, in percent; the number of questions."""
    values, errors, num_samples = [], [], None
    for run in runs_with(columns, runs):
        names = [run.score_name(column) for column in columns]
        entries = [run.record.scores[name] for name in names if name is not None]
        values.append(100 * sum(entry.value for entry in entries) / len(entries))
        errors.append(100 * math.sqrt(sum(entry.stderr**2 for entry in entries)) / len(entries))
        num_samples = sum(entry.num_samples for entry in entries)
    return values, errors, num_samples


def runs_with(columns: Sequence[str], runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that have a score of every column: a mean over fewer columns is another quantity."""
    return [run for run in runs if all(run.score_name(column) for column in columns)]


def scores_of(run: Run, column: str, scores: QuestionScores) -> dict[str, float]:
    """A run's scores of a benchmark of the paper by question; empty where it has none."""
    name = run.score_name(column)
    return dict((scores(run, name) if name else None) or {})
