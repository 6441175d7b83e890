"""One row of a table as numbers: the means of its runs, what chance they leave, what the paper prints beside them."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vrx.report.bootstrap import Difference, in_common, paired_bootstrap_of_average
from vrx.report.collect import Run, Scores, score_name
from vrx.report.paper import Artefact, Erratum
from vrx.report.paper import Row as Printed

SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Cell:
    """What our runs give (over several seeds their mean) beside what the paper prints.

    `error` is the standard error over questions, or over several seeds the standard deviation between them; `share` is
    of the row of all layers, `versus` the difference from it. `difference` is from the number that fits the paper's own
    cells, where the printed one does not.
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


def measured(columns: Sequence[str], mine: list[Run], reference: list[Run], scores: Scores, *, compare: bool) -> Cell:
    """The mean over these benchmarks, of the runs that have them all, beside the runs of all layers."""
    values, errors, samples = _values(mine, columns)
    base, _, _ = _values(reference, columns)
    if not values:
        return Cell()
    value = statistics.fmean(values)
    return Cell(
        value=value,
        error=statistics.stdev(values) if len(values) > 1 else errors[0],
        num_seeds=len(values),
        num_samples=samples,
        share=100 * value / statistics.fmean(base) if any(base) else None,
        versus=_versus(columns, mine, reference, scores) if compare else None,
    )


def beside(cell: Cell, artefact: Artefact, printed: Printed, column: str) -> Cell:
    """The cell with what the paper prints there."""
    others = {"average": printed.average, "share": printed.share}
    published = others[column] if column in others else printed.values[artefact.columns.index(column)]
    erratum = artefact.erratum(printed, column)
    right = published if erratum is None or erratum.recomputed is None else erratum.recomputed
    difference = None if cell.value is None or right is None else cell.value - right
    return dataclasses.replace(cell, published=published, difference=difference, erratum=erratum)


def _versus(columns: Sequence[str], mine: list[Run], reference: list[Run], scores: Scores) -> Difference | None:
    """The bootstrap over questions, of the seeds that both rows have (of all, where they share none)."""
    together = {run.seed for run in mine} & {run.seed for run in reference}
    sides = [[run for run in runs if run.seed in together] or runs for runs in (mine, reference)]
    pairs = [in_common(*([_scored(run, column, scores) for run in side] for side in sides)) for column in columns]
    whole = [pair for pair in pairs if pair is not None]
    if len(whole) < len(columns):
        return None
    found = paired_bootstrap_of_average(whole, SEED)
    return Difference(100 * found.value, 100 * found.low, 100 * found.high, found.p)


def _values(runs: list[Run], columns: Sequence[str]) -> tuple[list[float], list[float], int | None]:
    """Of each run that has all columns their mean and its standard error; how many questions are behind one."""
    values, errors, samples = [], [], None
    for run in runs:
        names = [score_name(run, column) for column in columns]
        if None in names:
            continue
        entries = [run.record.scores[name] for name in names if name is not None]
        values.append(100 * sum(entry.value for entry in entries) / len(entries))
        errors.append(100 * math.sqrt(sum(entry.stderr**2 for entry in entries)) / len(entries))
        samples = sum(entry.num_samples for entry in entries)
    return values, errors, samples


def _scored(run: Run, column: str, scores: Scores) -> dict[str, float]:
    name = score_name(run, column)
    return dict((scores(run, name) if name else None) or {})
