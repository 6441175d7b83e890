"""Figures: pure functions of records and of the paper, `(runs, paper) -> plots`; they are drawn by `vrx/plots.py`.

A further figure is a function of that form in `FIGURES`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from vrx.report.collect import Run, benchmark_configs, score_name, settings
from vrx.report.paper import Artefact, Paper
from vrx.report.plots import Line, Panel, Plot, Points
from vrx.runs.files import digest
from vrx.runs.layer_selection import format_layers
from vrx.selectors.rules import sparse_uniform

KEPT = 0.98  # of all layers' score: the dashed lines of Figure 2


def figure2(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Score against the number of layers for each amount of data, a panel a benchmark; one plot a model."""
    artefact, plots = paper.artefacts["figure2"], []
    for model, group in _by_model(runs):
        panels = []
        for place, column in enumerate(artefact.columns):
            lines = []
            for fraction in sorted({run.fraction for run in group}, reverse=True):
                found = [run for run in group if run.fraction == fraction and score_name(run, column)]
                scores = [run.record.scores[score_name(run, column) or ""].value for run in found]
                points = _points(found, [100 * score for score in scores])
                whole = next((y for x, y, _ in points if x == group[0].depth), None)
                level = None if whole is None else KEPT * whole
                lines.append(Line(f"{100 * fraction:g} % of the data", points, level=level))
            printed = [(row.num_layers, row.values[place]) for row in artefact.rows_of(model)]
            known = tuple((float(x), y, None) for x, y in printed if y is not None)
            lines += [Line("paper, 100 %", known, is_papers=True)] if known else []
            if any(len(line.points) > 1 for line in lines if not line.is_papers):
                panels.append(Panel(paper.columns[column], "layers tuned", "score (%)", tuple(lines)))
        if panels:
            title = f"{artefact.title}, {_title(model, paper)}"
            plots.append(Plot(f"figure2_{model}", title, tuple(panels), f"thin lines: {100 * KEPT:g} % of all layers"))
    return plots


def figure3(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Training cost on all the data against the number of layers, a panel a model: GPU-hours, seconds without a GPU."""
    artefact, panels = paper.artefacts["figure3"], []
    for model, group in _by_model(runs):
        timed = [run for run in group if run.fraction == 1 and run.train.seconds]
        on_gpus = bool(timed) and all(run.train.gpu_hours for run in timed)
        key, unit = ("gpu_hours", "GPU-hours") if on_gpus else ("seconds", "seconds of training")
        points = _points(timed, [getattr(run.train, key) for run in timed])
        if len(points) < 2:
            continue
        lines = [Line("ours", points)]
        whole = [y for x, y, _ in points if x == group[0].depth]
        for row in artefact.rows_of(model) if whole else ():
            saved = row.values[0] or 0.0
            there = (float(row.num_layers), whole[0] * (1 - saved / 100), None)
            lines.append(Line(f"paper: {saved:g} % less than all layers", (there,), is_papers=True))
        panels.append(Panel(_title(model, paper), "layers tuned", unit, tuple(lines), from_zero=True))
    return [Plot("figure3", artefact.title, tuple(panels))] if panels else []


def figure1_reversion(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Perplexity with some layers put back to the backbone, a panel a task, and the mean score of the benchmarks.

    Arrows, as in the paper: above the LVLM as it is on tasks with images, above its backbone on text. One plot for each
    tuned LVLM of which there is a reversion; of several seeds the mean.
    """
    artefact, plots, put_back = paper.artefacts["figure1_reversion"], [], "layers put back"
    for group in _alike([run for run in runs if run.reverted is not None], "reverted"):
        depth, named = group[0].depth, sorted({run.reverted or () for run in group}, key=lambda put: (len(put), put))
        if len(named) < 2:
            continue
        whole = tuple(range(depth))
        places = [float(named.index(run.reverted or ())) for run in group]
        marks = tuple("none" if not put else "all" if put == whole else format_layers(put) for put in named)
        scores = [name for name in group[0].record.scores if all(name in run.record.scores for run in group)]
        panels = []
        for name in scores:
            if not all(_perplexity(run, name) for run in group):
                continue
            points = _mean_at(places, [_perplexity(run, name) or 0.0 for run in group])
            reference = whole if _is_text(group, name) else ()
            level = next((y for x, y, _ in points if named[int(x)] == reference), None)
            lines = [Line("ours", points, level=level), *_printed(artefact, group[0], name, named)]
            panels.append(Panel(name, put_back, "perplexity", tuple(lines), marks=marks, is_ordered=False, arrows=True))
        tasks = [name for name in scores if not _perplexity(group[0], name)]
        if tasks:
            means = [100 * statistics.fmean(run.record.scores[name].value for name in tasks) for run in group]
            lines = (Line("ours", _mean_at(places, means)),)
            panels.append(Panel("all benchmarks", put_back, "mean score (%)", lines, marks=marks, is_ordered=False))
        title = f"{artefact.title}; {_title(group[0].model, paper)}, {_tuned(group[0])}"
        note = "↑, thin line: above the LVLM as it is with images, above its backbone on text"
        plots.append(Plot(_numbered(f"figure1_reversion_{group[0].model}", plots), title, tuple(panels), note))
    return plots


def figure1_pruning(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Score against the number of layers cut out of an LVLM all of whose layers were tuned, a line a benchmark."""
    whole = [run for run in runs if len(run.layers) in (0, run.depth)]
    return _pruning("figure1_pruning", whole, paper)


def figure4(runs: Sequence[Run], paper: Paper) -> list[Plot]:
    """Score against the number of layers cut out, a panel a benchmark: pruning outside the tuned region against pruning
    anywhere, of the LVLM with a region tuned and of the one with all layers tuned."""
    return _pruning("figure4", runs, paper)


def _pruning(figure: str, runs: Sequence[Run], paper: Paper) -> list[Plot]:
    artefact, plots = paper.artefacts[figure], []
    for group in _alike([run for run in runs if run.pruned is not None and run.record.pruned], "pruned", "layers"):
        names = [name for column in artefact.columns for name in [_shared_score(group, column)] if name]
        ways = {(len(run.layers), "anywhere" in way, way) for run in group for way in run.pruned_by}
        lines: dict[str, dict[str, Line]] = {name: {} for name in names}
        for number, _, way in sorted(ways):
            kind = [run for run in group if len(run.layers) == number]
            members = [run for run in kind if not run.pruned or way in run.pruned_by]
            counts = [float(len(run.pruned or ())) for run in members]
            for name in names:
                values = [100 * run.record.scores[name].value for run in members]
                label = f"{_tuned(members[0])}; by {way}"
                lines[name][label] = Line(label, _mean_at(counts, values))
        marks = tuple(map(str, range(1 + max(len(run.pruned or ()) for run in group))))
        if len(marks) < 2 or not names:
            continue
        if figure == "figure1_pruning":
            of_all = [
                Line(name + (f"; {label}" if len(ways) > 1 else ""), line.points)
                for name in names
                for label, line in lines[name].items()
            ]
            panels = [Panel(_title(group[0].model, paper), "layers pruned", "score (%)", tuple(of_all), marks=marks)]
        else:
            panels = [
                Panel(name, "layers pruned", "score (%)", tuple(lines[name].values()), marks=marks) for name in names
            ]
        title = f"{artefact.title}, {_title(group[0].model, paper)}"
        plots.append(Plot(_numbered(f"{figure}_{group[0].model}", plots), title, tuple(panels)))
    return plots


FIGURES: dict[str, Callable[[Sequence[Run], Paper], list[Plot]]] = {
    "figure1_reversion": figure1_reversion,
    "figure1_pruning": figure1_pruning,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
}


def _title(model: str, paper: Paper) -> str:
    return paper.models[model].title if model in paper.models else model


def _by_model(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """For each model the runs of sparse, uniform layers (and of all) in its largest setting."""
    found = []
    for model in sorted({run.model for run in runs if run.is_tuned}):
        group = settings(list(runs), model)[0]
        found.append((model, [run for run in group if run.layers == set(sparse_uniform(run.depth, len(run.layers)))]))
    return [(model, group) for model, group in found if group]


def _alike(runs: Sequence[Run], *keys: str) -> list[list[Run]]:
    """Runs that differ in nothing but these keys of their identity and the seed; the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        rest = {key: part for key, part in run.record.identity.items() if key not in (*keys, "seed")}
        groups.setdefault(digest(rest), []).append(run)
    return sorted(groups.values(), key=lambda group: (group[0].model, -len(group)))


def _tuned(run: Run) -> str:
    return "all layers tuned" if len(run.layers) in (0, run.depth) else f"{len(run.layers)} layers tuned"


def _numbered(name: str, before: Sequence[Plot]) -> str:
    number = 1 + sum(plot.name == name or plot.name.startswith(f"{name}_") for plot in before)
    return f"{name}_{number}" if number > 1 else name


def _shared_score(group: Sequence[Run], column: str) -> str | None:
    """What all runs of the group call a benchmark of the paper; None where one lacks it."""
    names = {score_name(run, column) for run in group}
    return names.pop() if len(names) == 1 else None


def _perplexity(run: Run, name: str) -> float | None:
    """The perplexity by tokens; None of a benchmark that is no likelihood."""
    return (run.record.scores[name].perplexity or {}).get("token")


def _is_text(group: Sequence[Run], name: str) -> bool:
    found = (benchmark_configs(run).get(name) for run in group)
    return next((config.image_folder is None for config in found if config), False)


def _printed(artefact: Artefact, run: Run, name: str, named: Sequence[tuple[int, ...]]) -> list[Line]:
    """The paper's perplexities of the same reversions, where it is the paper's model."""
    column = next((place for place, column in enumerate(artefact.columns) if name.startswith(column)), None)
    points = []
    for row in artefact.rows_of(run.model) if column is not None else ():
        put = tuple(range(row.reverted[0], row.reverted[1] + 1)) if row.reverted else ()
        if put in named and row.values[column or 0] is not None:
            points.append((float(named.index(put)), row.values[column or 0], None))
    return [Line("paper", tuple(sorted(points)), is_papers=True)] if points else []


def _mean_at(xs: Sequence[float], values: Sequence[float]) -> Points:
    """At each x the mean over seeds, and their standard deviation where there are several."""
    at: dict[float, list[float]] = {}
    for x, value in zip(xs, values, strict=True):
        at.setdefault(x, []).append(value)
    return tuple(
        (x, statistics.fmean(ys), statistics.stdev(ys) if len(ys) > 1 else None) for x, ys in sorted(at.items())
    )


def _points(runs: Sequence[Run], values: Sequence[float]) -> Points:
    """The values by number of layers."""
    return _mean_at([float(len(run.layers)) for run in runs], values)
