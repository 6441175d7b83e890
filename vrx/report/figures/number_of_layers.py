"""Figures 2 and 3: scores and training cost against the number of sparse, uniform layers that are tuned."""

from __future__ import annotations

from collections.abc import Sequence

from vrx.config.paths import as_file_name
from vrx.report.collect import Run
from vrx.report.figures.figure import FigureInputs
from vrx.report.figures.line_plot import Line, LinePlot, Panel, Points
from vrx.report.figures.points import mean_points
from vrx.report.paper import Artifact
from vrx.report.run_groups import group_by_setting
from vrx.report.training_time import NOTE
from vrx.selectors.rules import sparse_uniform

LEVEL = 0.98  # of the score with all layers: the dashed lines of the paper's Figure 2


def figure2(inputs: FigureInputs) -> list[LinePlot]:
    """Score against the number of layers for each amount of data: a plot a model, a panel a benchmark."""
    artifact, plots = inputs.paper.artifacts["figure2"], []
    for model, runs in _sparse_uniform_runs(inputs.runs):
        panels = []
        for column in artifact.columns:
            lines = _lines_by_fraction(runs, column)
            if any(len(line.points) > 1 for line in lines):
                lines += _paper_line(artifact, model, column)
                panels.append(Panel(inputs.paper.columns[column], "layers tuned", "score (%)", tuple(lines)))
        if panels:
            title = f"{artifact.title}, {inputs.model_title(model)}"
            note = f"thin lines: {100 * LEVEL:g} % of all layers"
            plots.append(LinePlot(f"figure2_{as_file_name(model)}", title, tuple(panels), note))
    return plots


def figure3(inputs: FigureInputs) -> list[LinePlot]:
    """Training cost on all the data against the number of layers, a panel a model: GPU-hours, seconds without a GPU."""
    artifact, panels = inputs.paper.artifacts["figure3"], []
    paused: list[Run] = []
    for model, runs in _sparse_uniform_runs(inputs.runs):
        timed = [run for run in runs if run.fraction == 1 and run.train.seconds]
        on_gpus, unit = all(run.train.gpu_hours for run in timed), "GPU-hours"
        costs = [run.train.gpu_hours or 0.0 for run in timed]
        if not on_gpus:
            costs, unit = [run.train.seconds or 0.0 for run in timed], "seconds of training"
        points = _by_num_layers(timed, costs)
        if len(points) < 2:
            continue
        lines = [Line("ours", points), *_paper_savings(artifact, model, _at(points, runs[0].depth))]
        panels.append(Panel(inputs.model_title(model), "layers tuned", unit, tuple(lines), from_zero=True))
        paused += [run for run in timed if run.had_pauses]
    return [LinePlot("figure3", artifact.title, tuple(panels), NOTE if paused else "")] if panels else []


def _sparse_uniform_runs(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """For each model the runs of sparse, uniform layers (and of all) in its largest setting."""
    by_model = []
    for model in sorted({run.model for run in runs if run.is_tuned}):
        group = group_by_setting(runs, model)[0]
        chosen = [run for run in group if run.layers == set(sparse_uniform(run.depth, len(run.layers)))]
        if chosen:
            by_model.append((model, chosen))
    return by_model


def _lines_by_fraction(runs: Sequence[Run], column: str) -> list[Line]:
    """A line for each amount of data, the largest first, each with its level."""
    lines = []
    for fraction in sorted({run.fraction for run in runs}, reverse=True):
        scored = [(run, name) for run in runs if run.fraction == fraction and (name := run.score_name(column))]
        points = _by_num_layers([run for run, _ in scored], [run.percent(name) for run, name in scored])
        all_layers = _at(points, runs[0].depth)
        level = None if all_layers is None else LEVEL * all_layers
        lines.append(Line(f"{100 * fraction:g} % of the data", points, level=level))
    return lines


def _paper_line(artifact: Artifact, model: str, column: str) -> list[Line]:
    """The paper's scores, where it prints any for this model."""
    position = artifact.columns.index(column)
    printed = [(row.num_layers, row.values[position]) for row in artifact.rows_of(model)]
    points = tuple((float(x), y, None) for x, y in printed if y is not None)
    return [Line("paper, 100 %", points, is_papers=True)] if points else []


def _paper_savings(artifact: Artifact, model: str, all_layers: float | None) -> list[Line]:
    """What the paper says is saved, in percent of the cost of all layers; nothing where that cost is unknown."""
    lines = []
    for row in artifact.rows_of(model) if all_layers is not None else ():
        saved = row.values[0] or 0.0
        point = (float(row.num_layers), (all_layers or 0.0) * (1 - saved / 100), None)
        lines.append(Line(f"paper: {saved:g} % less than all layers", (point,), is_papers=True))
    return lines


def _by_num_layers(runs: Sequence[Run], values: Sequence[float]) -> Points:
    return mean_points([float(len(run.layers)) for run in runs], values)


def _at(points: Points, x: float) -> float | None:
    return next((y for at, y, _ in points if at == x), None)
