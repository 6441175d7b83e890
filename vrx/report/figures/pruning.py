"""Figure 1, right, and Figure 4: scores against the number of pruned layers."""

from __future__ import annotations

from collections.abc import Sequence

from vrx.config.paths import as_file_name
from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.figures.points import mean_points, tuned_layers_label, unique_name
from vrx.report.paper import Artifact
from vrx.report.run_groups import group_by_identity

X_LABEL, Y_LABEL = "layers pruned", "score (%)"
Lines = dict[str, list[Line]]  # by benchmark, in the order of the legend


def figure1_pruning(inputs: FigureInputs) -> list[LinePlot]:
    """Score against the number of layers pruned from an LVLM with all layers tuned, a line a benchmark."""
    artifact = inputs.paper.artifacts["figure1_pruning"]
    plots: list[LinePlot] = []
    for group in _groups([run for run in inputs.runs if len(run.layers) in (0, run.depth)]):
        by_benchmark, marks = _lines(artifact, group), _marks(group)
        if not by_benchmark or len(marks) < 2:
            continue
        several = any(len(lines) > 1 for lines in by_benchmark.values())
        lines = tuple(
            Line(f"{name}; {line.name}" if several else name, line.points)
            for name, lines in by_benchmark.items()
            for line in lines
        )
        panel = Panel(inputs.model_title(group[0].model), X_LABEL, Y_LABEL, lines, marks=marks)
        plots.append(_plot("figure1_pruning", inputs, group, (panel,), plots))
    return plots


def figure4(inputs: FigureInputs) -> list[LinePlot]:
    """Score against the number of pruned layers, a panel a benchmark, a line for each way to choose them.

    Layers are chosen outside the tuned region or anywhere, in the LVLM with a region tuned and in the one with all
    layers tuned.
    """
    artifact = inputs.paper.artifacts["figure4"]
    plots: list[LinePlot] = []
    for group in _groups(inputs.runs):
        by_benchmark, marks = _lines(artifact, group), _marks(group)
        if not by_benchmark or len(marks) < 2:
            continue
        panels = tuple(Panel(name, X_LABEL, Y_LABEL, tuple(lines), marks=marks) for name, lines in by_benchmark.items())
        plots.append(_plot("figure4", inputs, group, panels, plots))
    return plots


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Pruned runs that differ only in the tuned and the pruned layers, and the seed."""
    pruned = [run for run in runs if run.pruned is not None and run.record.pruned]
    return group_by_identity(pruned, except_for=("pruned", "layers"))


def _lines(artifact: Artifact, group: Sequence[Run]) -> Lines:
    """The lines of each benchmark that all runs have: one for each number of tuned layers and way to choose."""
    names = [name for column in artifact.columns if (name := _shared_score_name(group, column))]
    kinds = {(len(run.layers), "anywhere" in way, way) for run in group for way in run.pruned_by}
    lines: Lines = {name: [] for name in names}
    for num_tuned, _, way in sorted(kinds):
        tuned = [run for run in group if len(run.layers) == num_tuned]
        members = [run for run in tuned if not run.pruned or way in run.pruned_by]
        counts = [float(len(run.pruned or ())) for run in members]
        for name in names:
            values = [run.percent(name) for run in members]
            lines[name].append(Line(f"{tuned_layers_label(tuned[0])}; by {way}", mean_points(counts, values)))
    return lines


def _marks(group: Sequence[Run]) -> tuple[str, ...]:
    """The marks of the x axis: 0 to the largest number of pruned layers."""
    return tuple(map(str, range(1 + max(len(run.pruned or ()) for run in group))))


def _shared_score_name(group: Sequence[Run], column: str) -> str | None:
    """What all runs of the group call a benchmark of the paper; None where one lacks it."""
    names = {run.score_name(column) for run in group}
    return names.pop() if len(names) == 1 else None


def _plot(
    figure: str, inputs: FigureInputs, group: Sequence[Run], panels: tuple[Panel, ...], before: Sequence[LinePlot]
) -> LinePlot:
    model = group[0].model
    title = f"{inputs.paper.artifacts[figure].title}, {inputs.model_title(model)}"
    return LinePlot(unique_name(f"{figure}_{as_file_name(model)}", [plot.name for plot in before]), title, panels)
