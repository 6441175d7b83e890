"""What scores are worth: those of the untouched LVLM, of other parts, with other questions' pictures, and by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from vrx.config.paths import as_file_name
from vrx.report.collect import Run
from vrx.report.paper import Paper
from vrx.report.paper_layers import row_layers, row_runs
from vrx.report.question_scores import QuestionScores
from vrx.report.run_groups import group_by_setting
from vrx.report.table_notes import table_notes
from vrx.report.tables import Table, TableContents, TableRow

LAYOUT = "table1"  # whose columns and first two rows these tables have: all layers, and the sparse region
NUM_TUNED_ROWS = 2


def baselines(paper: Paper, runs: Sequence[Run], scores: QuestionScores) -> list[Table]:
    """A table for each model that answered these benchmarks both untouched and tuned."""
    artifact = dataclasses.replace(
        paper.artifacts[LAYOUT], name="baselines", title="Baselines: before tuning, and without what the picture shows"
    )
    tables = []
    for model in sorted({run.model for run in runs if run.is_tuned} & {run.model for run in runs if run.is_untouched}):
        of_model = [run for run in runs if run.model == model]
        contents = TableContents(artifact, paper, tuple(of_model), scores)
        rows = [row for row in _rows(contents) if row.is_filled]
        if any(row.layers == () for row in rows) and len(rows) > 1:
            rows = contents.with_controls(rows)
            name = f"{artifact.name}_{as_file_name(model)}"
            notes = table_notes(rows, is_papers_model=True)
            title = f"{artifact.title}; {model}"
            tables.append(Table(name, title, model, contents.columns, tuple(rows), tuple(notes)))
    return tables


def _rows(contents: TableContents) -> Iterator[TableRow]:
    """For each vision tower, the commonest first: the untouched LVLM, all layers tuned, and the region tuned."""
    runs = [run for run in contents.runs if run.is_tuned or run.is_untouched]
    towers = [_tower(run) for run in runs]
    tuned = dict.fromkeys(_tower(run) for run in runs if run.is_tuned)
    for number, tower in enumerate(sorted(tuned, key=towers.count, reverse=True)):
        addition = f", {PurePath(tower).name}" if number else ""
        with_tower = [run for run in runs if _tower(run) == tower]
        for label, is_trained in (("Untouched, untrained projector", False), ("Untouched", True)):
            untouched = [run for run in with_tower if run.is_untouched and _has_trained_projector(run) == is_trained]
            yield TableRow(label + addition, (), 1.0, tuple(untouched), contents.cells(untouched, (), compare=False))
        yield from _tuned_rows(contents, group_by_setting(with_tower, contents.model)[0], addition)


def _tuned_rows(contents: TableContents, runs: Sequence[Run], addition: str) -> Iterator[TableRow]:
    all_layers = [run for run in runs if len(run.layers) == contents.depth and run.fraction == 1]
    for printed in contents.artifact.rows_of(contents.papers_model)[:NUM_TUNED_ROWS]:
        layers = row_layers(printed, contents.depth, contents.paper)
        tuned = [run for run in row_runs(printed, runs, contents.depth, contents.paper) if run.fraction == 1]
        cells = contents.cells(tuned, all_layers, compare=False)
        yield TableRow(printed.label + addition, layers, 1.0, tuple(tuned), cells)


def _tower(run: Run) -> str:
    """The vision tower as the run's configuration names it; empty for an LVLM that is one checkpoint."""
    return str(run.record.model.parts.get("vision_tower", ""))


def _has_trained_projector(run: Run) -> bool:
    """Whether the projector was trained before; so it is in an LVLM that is one checkpoint."""
    return not _tower(run) or "projector" in run.record.model.parts
