"""Regions: sets of tuned layers with their score and what tuning them cost, and which of them are best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vrx.metrics.aggregate import standard_error
from vrx.report.collect import Run
from vrx.report.page.charts import Axis, PageChart, Point, Series
from vrx.report.run_groups import group_by_setting
from vrx.report.run_summary import accuracy_benchmarks, mean_score, mean_stderr

COSTS: Mapping[str, Callable[[Run], float | None]] = {
    "GPU-hours": lambda run: run.train.gpu_hours,
    "seconds of training": lambda run: run.train.seconds,
    "model PFLOPs": lambda run: None if run.train.flops is None else run.train.flops / 1e15,
    "peak memory (GB)": lambda run: run.train.peak_memory_gb,
    "trainable parameters (millions)": lambda run: (run.train.trainable_parameters or 0) / 1e6,
}


@dataclass(frozen=True)
class Region:
    """The runs that tune the same layers on the same share of the data, one a seed.

    score: their mean score over the benchmarks that all regions share, in percent, with its standard error: over seeds
    where there are several, else over the questions. costs: means over the runs; those that a run lacks, or that
    are zero for one, are left out.
    """

    runs: tuple[Run, ...]
    score: float
    error: float
    costs: Mapping[str, float]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.runs[0].layers))

    @property
    def is_all(self) -> bool:
        """Whether every layer was tuned."""
        return len(self.layers) == self.runs[0].depth

    @property
    def label(self) -> str:
        """`sparse uniform, 8 of 32 layers, 3 seeds`."""
        run = self.runs[0]
        names = sorted({name for each in self.runs for name in each.record.selectors} - {"layers", "all"})
        chosen = " / ".join(name.replace("_", " ") for name in names)
        number = f"all {run.depth} layers" if self.is_all else f"{len(self.layers)} of {run.depth} layers"
        data = "" if run.fraction == 1 else f", {100 * run.fraction:g} % of the data"
        seeds = f", {len(self.runs)} seeds" if len(self.runs) > 1 else ""
        return f"{chosen + ', ' if chosen and not self.is_all else ''}{number}{data}{seeds}"


@dataclass(frozen=True)
class ModelRegions:
    """The regions of a model's largest setting, by score, the best first."""

    model: str
    regions: tuple[Region, ...]
    benchmarks: tuple[str, ...]

    @property
    def all_layers(self) -> Region | None:
        """The region of all layers, on all the data."""
        return next((each for each in self.regions if each.is_all and each.runs[0].fraction == 1), None)

    @property
    def best(self) -> Region | None:
        """The best region of fewer than all layers, on all the data."""
        return next((each for each in self.regions if not each.is_all and each.runs[0].fraction == 1), None)

    @property
    def cost_name(self) -> str | None:
        """The first cost that all regions have."""
        return next((name for name in COSTS if all(name in each.costs for each in self.regions)), None)

    @property
    def first_comparison(self) -> tuple[Run, ...]:
        """A run of all layers and one of the best region, with the same seed where there is one."""
        if self.all_layers is None or self.best is None:
            return ()
        seeds = {run.seed: run for run in self.best.runs}
        whole = next((run for run in self.all_layers.runs if run.seed in seeds), self.all_layers.runs[0])
        return whole, seeds.get(whole.seed, self.best.runs[0])

    def front(self, cost: str) -> list[Region]:
        """The regions that no cheaper one equals or beats, the cheapest first."""
        best, front = -math.inf, []
        for region in sorted(self.regions, key=lambda each: (each.costs[cost], -each.score)):
            if region.score > best:
                best = region.score
                front.append(region)
        return front


def model_regions(runs: Sequence[Run]) -> list[ModelRegions]:
    """The regions of each model that has a finished fine-tune with scores."""
    models = []
    for model in sorted({run.model for run in runs if run.is_tuned}):
        group = [run for run in group_by_setting(runs, model)[0] if accuracy_benchmarks(run.record)]
        if not group:
            continue
        named = [set(accuracy_benchmarks(run.record)) for run in group]
        shared = set.intersection(*named) or named[0]
        benchmarks = tuple(name for name in accuracy_benchmarks(group[0].record) if name in shared)
        by_layers: dict[tuple[object, ...], list[Run]] = {}
        for run in group:
            if mean_score(run.record, benchmarks) is not None:
                by_layers.setdefault((run.layers, run.fraction), []).append(run)
        regions = [_region(members, benchmarks) for members in by_layers.values()]
        models.append(ModelRegions(model, tuple(sorted(regions, key=lambda each: -each.score)), benchmarks))
    return models


def cost_charts(regions: ModelRegions) -> list[PageChart]:
    """Score against each cost that all regions have; those on the Pareto front are filled and joined by steps."""
    charts = []
    for cost in (name for name in COSTS if all(name in each.costs for each in regions.regions)):
        front = regions.front(cost)
        others = sorted((each for each in regions.regions if each not in front), key=lambda each: each.costs[cost])
        series = [Series("Pareto front: none is cheaper and better", _points(front, cost), 0, "steps")]
        series += [Series("other regions", _points(others, cost), 1, "", hollow=True)] if others else []
        axes = Axis(cost, from_zero=True), Axis(f"mean of {len(regions.benchmarks)} benchmarks (%)")
        charts.append(PageChart(cost, *axes, tuple(series)))
    return charts if len(regions.regions) > 1 else []


def _points(regions: Sequence[Region], cost: str) -> tuple[Point, ...]:
    return tuple(Point(each.costs[cost], each.score, each.error, each.label) for each in regions)


def _region(runs: Sequence[Run], benchmarks: Sequence[str]) -> Region:
    scores = [100 * (mean_score(run.record, benchmarks) or 0.0) for run in runs]
    over_questions = 100 * mean_stderr([runs[0].record.scores[name] for name in benchmarks])
    error = standard_error(scores) if len(scores) > 1 else over_questions
    costs = {}
    for name, cost in COSTS.items():
        values = [cost(run) for run in runs]
        if all(values):
            costs[name] = statistics.fmean(value or 0.0 for value in values)
    return Region(tuple(runs), statistics.fmean(scores), error, costs)
