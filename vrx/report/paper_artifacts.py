"""The tables and figures of the paper by name, made from the runs below an output root.

A further figure is a builder in `vrx/report/figures/`, an entry of `FIGURES`, and its title in `paper.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vrx.config.errors import UserError
from vrx.report.baselines import baselines
from vrx.report.calibration import calibration_as_markdown
from vrx.report.collect import Run, find_runs
from vrx.report.figures.controls import controls
from vrx.report.figures.figure import Figure, FigureInputs
from vrx.report.figures.image_attention import figure5
from vrx.report.figures.number_of_layers import figure2, figure3
from vrx.report.figures.pruning import figure1_pruning, figure4
from vrx.report.figures.reversion import figure1_reversion
from vrx.report.formats import render_markdown
from vrx.report.paper import Paper, load_paper
from vrx.report.question_scores import QuestionScores, question_scores
from vrx.report.tables import Table, build_tables

TABLES = ("table1", "table2", "table3_llava_7b", "table3_llava_13b", "table4", "figure2")
CALIBRATION = "calibration"  # no part of the paper: the sweep of released checkpoints
OWN_MODEL_ONLY = ("table3_llava_7b",)  # with other models its rows are those of table2
FIGURES: dict[str, Callable[[FigureInputs], Sequence[Figure]]] = {
    "figure1_reversion": figure1_reversion,
    "figure1_pruning": figure1_pruning,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "controls": controls,
}


def artifact_as_text(name: str, root: Path, *, results: Sequence[Path] = (), model: str | None = None) -> str:
    """A table as Markdown, or the numbers of a figure: what a sweep prints at its end. Empty where no run is of it.

    model: only of this model, where one is named.
    """
    if name == CALIBRATION:
        return calibration_as_markdown(find_runs(root, *results), model=model)
    if name not in TABLES and name not in FIGURES:
        valid = dict.fromkeys([*TABLES, *FIGURES, CALIBRATION])
        raise UserError(f"no table or figure {name}; valid: {', '.join(valid)}")
    paper, runs = load_paper(), [run for run in find_runs(root, *results) if model in (None, run.model)]
    if name in TABLES:
        tables = build_tables(paper.artifacts[name], paper, runs, question_scores(runs))
        return "\n".join(render_markdown(table) for table in tables)
    return "\n".join(figure.as_text() for figure in FIGURES[name](FigureInputs(runs, paper, (root, *results), model)))


def all_tables(paper: Paper, runs: Sequence[Run], scores: QuestionScores) -> list[Table]:
    """Every table that there are runs of, in the order of the paper, then the baselines."""
    printed = [
        table
        for name in TABLES
        for table in build_tables(paper.artifacts[name], paper, runs, scores)
        if name not in OWN_MODEL_ONLY or paper.artifacts[name].rows_of(table.model)
    ]
    return [*printed, *baselines(paper, runs, scores)]


def all_figures(inputs: FigureInputs) -> list[Figure]:
    """Every figure that there are runs or files of, in the order of the paper."""
    return [figure for build in FIGURES.values() for figure in build(inputs)]
