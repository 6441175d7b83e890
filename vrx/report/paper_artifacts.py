"""An artefact of the paper by its name, from the runs below an output root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vrx.config.errors import UserError
from vrx.report import figures, formats, heatmap, paper, plots, tables
from vrx.report.collect import Run, Scores, find_runs, scorer

TABLES = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "table4", "figure2")
OWN_MODEL_ONLY = ("table3_llava_7b",)  # elsewhere its rows are those of table2


def artefact(name: str, root: Path, *, model: str | None = None) -> str:
    """A table, or the points of a figure, as text: what a sweep prints at its end. Empty where no run is of it."""
    runs = [run for run in find_runs(root) if model in (None, run.model)]
    told = paper.load()
    if name in TABLES:
        return "\n".join(
            formats.render_markdown(table) for table in tables.build(told.artefacts[name], told, runs, scorer(runs))
        )
    if name in figures.FIGURES:
        return "\n".join(plots.as_text(plot) for plot in figures.FIGURES[name](runs, told))
    if name == "figure5":
        return "\n".join(heatmap.as_text(heat) for heat in heatmap.find(root, told, model=model))
    valid = dict.fromkeys([*TABLES, *figures.FIGURES, "figure5"])
    raise UserError(f"no artefact {name}; valid are {', '.join(valid)}")


def all_tables(told: paper.Paper, runs: Sequence[Run], scores: Scores) -> list[tables.Table]:
    """Every table that there are runs of, in the order of the paper."""
    return [
        table
        for name in TABLES
        for table in tables.build(told.artefacts[name], told, runs, scores)
        if name not in OWN_MODEL_ONLY or told.artefacts[name].rows_of(table.model)
    ]


def all_plots(told: paper.Paper, runs: Sequence[Run]) -> list[plots.Plot]:
    return [plot for figure in figures.FIGURES.values() for plot in figure(runs, told)]
