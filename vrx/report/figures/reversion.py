"""Figure 1, left: perplexity and scores with some layers reverted to the backbone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vrx.config.paths import as_file_name
from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.line_plot import Line, LinePlot, Panel
from vrx.report.figures.points import mean_points, tuned_layers_label, unique_name
from vrx.report.paper import Artifact
from vrx.report.question_scores import benchmark_config
from vrx.report.run_groups import group_by_identity
from vrx.runs.layer_selection import format_layers

NOTE = "↑ marks points above the thin line: the LVLM without reversion on images, its backbone on text"
X_LABEL = "reverted layers"
LOG_FROM = 20  # ratio of perplexities from which their axis is logarithmic
LayerSets = list[tuple[int, ...]]


def figure1_reversion(inputs: FigureInputs) -> list[LinePlot]:
    """Perplexity with some layers reverted, a panel a task, and the mean score of the other benchmarks.

    Arrows as in the paper: above the LVLM without reversion on tasks with images, above its backbone on text. One plot
    for each tuned LVLM with reversions; points are means over seeds.
    """
    artifact = inputs.paper.artifacts["figure1_reversion"]
    plots: list[LinePlot] = []
    for group in group_by_identity([run for run in inputs.runs if run.reverted is not None], except_for=("reverted",)):
        first = group[0]
        layer_sets = sorted(
            {run.reverted or () for run in group}, key=lambda layers: (len(layers) == first.depth, layers)
        )
        if len(layer_sets) < 2:
            continue
        title = f"{artifact.title}; {inputs.model_title(first.model)}, {tuned_layers_label(first)}"
        name = unique_name(f"figure1_reversion_{as_file_name(first.model)}", [plot.name for plot in plots])
        plots.append(LinePlot(name, title, _panels(artifact, group, layer_sets), NOTE))
    return plots


def _panels(artifact: Artifact, group: Sequence[Run], layer_sets: LayerSets) -> tuple[Panel, ...]:
    first, positions = group[0], [float(layer_sets.index(run.reverted or ())) for run in group]
    marks = tuple(_mark(layers, first.depth) for layers in layer_sets)
    names = [name for name in first.record.scores if all(name in run.record.scores for run in group)]
    panels = []
    for name in names:
        if all(_perplexity(run, name) for run in group):
            points = mean_points(positions, [_perplexity(run, name) or 0.0 for run in group])
            reference = tuple(range(first.depth)) if _is_text(group, name) else ()
            level = next((y for x, y, _ in points if layer_sets[int(x)] == reference), None)
            lines = (Line("ours", points, level=level), *_paper_line(artifact, first, name, layer_sets))
            values = [y for line in lines for _, y, _ in line.points]
            is_log_y = max(values) > LOG_FROM * min(values)
            shown = Panel(
                name, X_LABEL, "perplexity", lines, marks=marks, is_ordered=False, arrows=True, is_log_y=is_log_y
            )
            panels.append(shown)
    scored = [name for name in names if not _perplexity(first, name)]
    if scored:
        means = [statistics.fmean(run.percent(name) for name in scored) for run in group]
        lines = (Line("ours", mean_points(positions, means)),)
        panels.append(Panel("all benchmarks", X_LABEL, "mean score (%)", lines, marks=marks, is_ordered=False))
    return tuple(panels)


def _mark(layers: tuple[int, ...], depth: int) -> str:
    return "none" if not layers else "all" if layers == tuple(range(depth)) else format_layers(layers)


def _perplexity(run: Run, name: str) -> float | None:
    """The perplexity by tokens; None for benchmarks that are not log-likelihoods."""
    return (run.record.scores[name].perplexity or {}).get("token")


def _is_text(group: Sequence[Run], name: str) -> bool:
    """Whether a benchmark has no images, by the configuration of the first run that has one."""
    configs = (benchmark_config(run, name) for run in group)
    return next((config.image_folder is None for config in configs if config), False)


def _paper_line(artifact: Artifact, run: Run, name: str, layer_sets: LayerSets) -> list[Line]:
    """The paper's perplexities for the same reversions, where it is the paper's model."""
    position = next((index for index, column in enumerate(artifact.columns) if name.startswith(column)), None)
    if position is None:
        return []
    points = []
    for row in artifact.rows_of(run.model):
        layers = tuple(range(row.reverted[0], row.reverted[1] + 1)) if row.reverted else ()
        value = row.values[position]
        if layers in layer_sets and value is not None:
            points.append((float(layer_sets.index(layers)), value, None))
    return [Line("paper", tuple(sorted(points)), is_papers=True)] if points else []
