"""Controls: where each way to select layers falls among random selections of as many layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vrx.config.paths import as_file_name
from vrx.report.cells import measured_cell
from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.strip_plot import StripPlot, StripRow
from vrx.report.run_groups import group_by_setting

RANDOM = "random"  # the selector's name in records
MIN_SELECTIONS = 5  # of random layers; fewer are no distribution


def controls(inputs: FigureInputs) -> list[StripPlot]:
    """For each model the average of every selector, and of all layers, among those of random selections.

    Of the runs of the model's largest setting on all data; with several seeds a number is the mean over them.
    """
    artifact, plots = inputs.paper.artifacts["controls"], []
    for model in sorted({run.model for run in inputs.runs if run.is_tuned}):
        runs = [run for run in group_by_setting(inputs.runs, model)[0] if run.fraction == 1]
        counts = Counter(len(run.layers) for run in runs if RANDOM in run.record.selectors)
        if not counts:
            continue
        k = max(counts, key=lambda count: (counts[count], count))
        chosen = [run for run in runs if len(run.layers) == k]
        by_layers: dict[frozenset[int], list[Run]] = {}
        for run in chosen:
            by_layers.setdefault(run.layers, []).append(run)
        groups = [group for group in by_layers.values() if any(RANDOM in run.record.selectors for run in group)]
        random = [row.value for group in groups if (row := _row("", group, artifact.columns))]
        rows = _selector_rows(chosen, artifact.columns)
        all_layers = [run for run in runs if len(run.layers) == run.depth]
        rows += [row] if (row := _row("all layers", all_layers, artifact.columns)) else []
        if len(random) >= MIN_SELECTIONS and rows:
            title = f"{artifact.title}, {k} of {runs[0].depth} layers, {inputs.model_title(model)}"
            plots.append(
                StripPlot(f"controls_{as_file_name(model)}", title, "average score (%)", tuple(random), tuple(rows))
            )
    return plots


def _selector_rows(runs: Sequence[Run], columns: Sequence[str]) -> list[StripRow]:
    """A row for each selector but the random one, the best last."""
    names = {name for run in runs for name in run.record.selectors} - {RANDOM, "layers"}
    rows = [
        _row(name.replace("_", " "), [run for run in runs if name in run.record.selectors], columns) for name in names
    ]
    return sorted((row for row in rows if row), key=lambda row: (row.value, row.name))


def _row(name: str, runs: Sequence[Run], columns: Sequence[str]) -> StripRow | None:
    """The mean over the runs that have all columns; None where no run has."""
    cell = measured_cell(columns, runs, (), lambda run, column: None, compare=False)
    return None if cell.value is None else StripRow(name, cell.value, cell.error)
