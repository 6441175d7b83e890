"""The paper's tables with our numbers: pure functions of records and of the paper.

Every number is in percent; None stands for a missing one.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vrx.config.paths import as_file_name
from vrx.config.shuffled_images import LABEL, SUFFIX
from vrx.report.cells import Cell, measured_cell, with_published
from vrx.report.collect import Run
from vrx.report.paper import Artifact, Paper, PaperRow
from vrx.report.paper_layers import label_at_depth, row_layers, row_runs, row_selector, selector_label
from vrx.report.question_scores import QuestionScores, chance
from vrx.report.run_groups import describe_differences, group_by_setting, setting
from vrx.report.table_notes import CHANCE_LABEL, table_notes

OWN = "Ours: "  # before the label of a row whose layers a selector chose for this model


@dataclass(frozen=True)
class TableRow:
    """A row of a table; `runs` are those it was made from, one a seed. `cells` are by column."""

    label: str
    layers: tuple[int, ...] | None
    fraction: float
    runs: tuple[Run, ...]
    cells: dict[str, Cell]

    @property
    def is_filled(self) -> bool:
        """Whether there is a number of ours."""
        return any(cell.value is not None for cell in self.cells.values())


@dataclass(frozen=True)
class Table:
    """A table of the paper for one model: benchmarks, then `average` and `share` where it has them."""

    name: str
    title: str
    model: str
    columns: dict[str, str]  # with their names in print
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


def build_tables(artifact: Artifact, paper: Paper, runs: Sequence[Run], scores: QuestionScores) -> list[Table]:
    """The table for each model that has runs of it, and for each setting of these runs.

    Inside a table nothing but layers, data and seed differs. Settings beside the largest need two rows. A model that is
    not the paper's gets the layout without the paper's scores: only the shares of all layers can be compared.
    """
    tables = []
    for model in sorted({run.model for run in runs}):
        groups = group_by_setting(runs, model)
        for number, (group, differences) in enumerate(zip(groups, describe_differences(groups), strict=True), start=1):
            weights = setting(group[0])["weights"]
            untouched = [run for run in runs if run.is_untouched and run.record.identity["weights"] == weights]
            contents = TableContents(artifact, paper, (*group, *untouched), scores)
            table = contents.table(differences, number)
            filled = [row for row in table.rows if row.is_filled and row.runs]
            all_layers = tuple(range(contents.depth))
            if any(row.layers != all_layers for row in filled) and (number == 1 or len(filled) > 1):
                tables.append(table)
    return tables


@dataclass(frozen=True)
class TableContents:
    """The runs of one setting, tuned and untouched, and the table they fill."""

    artifact: Artifact
    paper: Paper
    runs: tuple[Run, ...]  # of one model, at least one
    scores: QuestionScores

    @property
    def model(self) -> str:
        return self.runs[0].model

    @property
    def depth(self) -> int:
        return self.runs[0].depth

    @property
    def is_papers_model(self) -> bool:
        return bool(self.artifact.rows_of(self.model))

    @property
    def papers_model(self) -> str:
        """The model whose rows give the layout."""
        return self.model if self.is_papers_model else self.artifact.rows[0].model

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the table with their names in print."""
        totals = {"average": "average", "share": "of all layers"} if self.artifact.has_average else {}
        return {name: self.paper.columns[name] for name in self.artifact.columns} | totals

    def table(self, differences: str, number: int) -> Table:
        """The table; `differences` from other settings go into its title, the number of its setting into its name."""
        artifact = self.artifact
        rows = [self._printed_row(row) for row in artifact.rows_of(self.papers_model)]
        if artifact.name == "table1":
            rows += self._other_selectors()
        rows = self.with_controls(rows)
        title = artifact.title
        if not self.is_papers_model:
            title += f", with {self.model} for {self.paper.models[self.papers_model].title}"
        if differences:
            title += f" ({differences})"
        name = f"{artifact.name}_{as_file_name(self.model)}" + (f"_{number}" if number > 1 else "")
        notes = table_notes(rows, is_papers_model=self.is_papers_model)
        return Table(name, title, self.model, self.columns, tuple(rows), tuple(notes))

    def _printed_row(self, printed: PaperRow) -> TableRow:
        """A row that the paper prints, with our numbers."""
        is_all, label = printed.selector == "all", label_at_depth(printed, self.depth, self.paper)
        if row_selector(printed, self.depth, self.paper):
            label = OWN + label
        on_its_data = [run for run in self.runs if run.fraction == printed.fraction]
        runs = row_runs(printed, on_its_data, self.depth, self.paper)
        cells = self.cells(runs, self._all_layers(printed.fraction), compare=not is_all)
        for column in cells if self.is_papers_model else cells.keys() & {"share"}:
            cells[column] = with_published(cells[column], self.artifact, printed, column)
        layers = row_layers(printed, self.depth, self.paper)
        layers = _common_layers(runs) if layers is None else layers
        return TableRow(label, layers, printed.fraction, tuple(runs), cells)

    def _other_selectors(self) -> list[TableRow]:
        """Rows of selectors that the table does not print, such as freshly scored ones, with as many layers.

        Such rows are named by their selector: with another seed it chooses other layers.
        """
        printed = self.artifact.rows_of(self.papers_model)
        on_all_data = [run for run in self.runs if run.is_tuned and run.fraction == 1]
        all_layers = self._all_layers(1)
        shown = {row_selector(row, self.depth, self.paper) or row.selector for row in printed}
        by_selector: dict[str, list[Run]] = {}
        for run in on_all_data:
            if len(run.layers) in {row.num_layers for row in printed} and run not in all_layers:
                for name in set(run.record.selectors) - shown - {"layers"}:
                    by_selector.setdefault(name, []).append(run)
        rows = []
        for name, runs in sorted(by_selector.items()):
            cells = self.cells(runs, all_layers, compare=True)
            rows.append(TableRow(OWN + selector_label(name), _common_layers(runs), 1.0, tuple(runs), cells))
        return rows

    def with_controls(self, rows: Sequence[TableRow]) -> list[TableRow]:
        """The rows, below each that of its runs with shuffled images, and the row of chance levels."""
        rows = [each for row in rows for each in (row, *self._with_shuffled_images(row))]
        return [*rows, *self._chance(rows)]

    def _with_shuffled_images(self, row: TableRow) -> list[TableRow]:
        """The row of the same runs asked with other questions' pictures; none where they were not."""
        columns = [column + SUFFIX for column in self.artifact.columns]
        runs = [run for run in row.runs if any(run.score_name(column) for column in columns)]
        if not runs or self.artifact.text_only:
            return []
        shuffled = [measured_cell([column], runs, (), self.scores, compare=False) for column in columns]
        cells = dict(zip(self.artifact.columns, shuffled, strict=True))
        if self.artifact.has_average:
            cells |= {"average": measured_cell(columns, runs, (), self.scores, compare=False), "share": Cell()}
        return [TableRow(row.label + LABEL, row.layers, row.fraction, tuple(runs), cells)]

    def _chance(self, rows: Sequence[TableRow]) -> list[TableRow]:
        """The row of chance levels: the mean over the runs above it, whose questions can differ in number."""
        runs = {run.folder: run for row in rows for run in row.runs}.values()
        cells: dict[str, Cell] = {}
        for column in self.artifact.columns:
            names = [(run, name) for run in runs if (name := run.score_name(column))]
            levels = [level for run, name in names if (level := chance(run, name)) is not None]
            cells[column] = Cell(value=100 * statistics.fmean(levels)) if levels else Cell()
        values = [cell.value for cell in cells.values() if cell.value is not None]
        if self.artifact.has_average:
            is_complete = len(values) == len(cells)
            cells |= {"average": Cell(value=statistics.fmean(values)) if is_complete else Cell(), "share": Cell()}
        return [TableRow(CHANCE_LABEL, None, 1.0, (), cells)] if values else []

    def cells(self, runs: Sequence[Run], all_layers: Sequence[Run], *, compare: bool) -> dict[str, Cell]:
        """The cells of a row of these runs, with the share of all layers, and the difference from them to compare."""
        columns = self.artifact.columns
        cells = {name: measured_cell([name], runs, all_layers, self.scores, compare=compare) for name in columns}
        if self.artifact.has_average:
            cells["average"] = measured_cell(columns, runs, all_layers, self.scores, compare=compare)
            cells["share"] = Cell(value=cells["average"].share)
        return cells

    def _all_layers(self, fraction: float) -> list[Run]:
        """The runs that tune every layer on this share of the data."""
        return [run for run in self.runs if run.fraction == fraction and len(run.layers) == self.depth]


def _common_layers(runs: Sequence[Run]) -> tuple[int, ...] | None:
    """The layers that all of these runs tuned; None where they differ."""
    layer_sets = {tuple(sorted(run.layers)) for run in runs}
    return layer_sets.pop() if len(layer_sets) == 1 else None
