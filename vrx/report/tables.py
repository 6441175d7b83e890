"""Tables: pure functions of records and of the paper.

A `Table` is a thing to print: every number in it is percent, a cell that is missing holds None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vrx.report.cells import Cell, beside, measured
from vrx.report.collect import Run, Scores, setting, settings, told_apart
from vrx.report.paper import Artefact, Paper
from vrx.report.paper import Row as Printed
from vrx.runs.record import Record
from vrx.selectors import rules


def average(record: Record, names: list[str]) -> float | None:
    """Mean score of the named benchmarks; None where the record lacks one."""
    values = [record.scores[name].value for name in names if name in record.scores]
    return sum(values) / len(values) if values and len(values) == len(names) else None


def tasks(record: Record) -> list[str]:
    """The benchmarks of a record whose score is a share of right answers: all but those of perplexity."""
    return [name for name, entry in record.scores.items() if entry.perplexity is None]


def row(record: Record, all_layers: Record | None) -> str:
    """A run's table row as text: each benchmark with its standard error in percent, the average, and the share of the
    run that tunes all layers, where there is one."""
    names = tasks(record)
    entries = {name: record.scores[name] for name in names}
    cells = [(name, f"{100 * entry.value:.2f} ±{100 * entry.stderr:.2f}") for name, entry in entries.items()]
    mean = average(record, names)
    if mean is not None:
        cells.append(("average", f"{100 * mean:.2f}"))
    reference = average(all_layers, names) if all_layers else None
    if mean is not None and reference:
        cells.append(("of all layers", f"{100 * mean / reference:.2f}"))
    for name in [name for name in record.scores if name not in names]:
        told = record.scores[name].perplexity
        assert told is not None
        cells.append((name, f"perplexity {told['token']:.4g} by token, {told['word']:.4g} by word"))
    width = max(len(name) for name, _ in cells)
    layers = record.layers
    told = f"layers {', '.join(map(str, layers))}" if layers else "untouched"
    lines = [f"{record.model.name}, {told}  (percent)"]
    lines += [f"  {name:<{width}}  {value}" for name, value in cells]
    return "\n".join(lines)


# ---- the paper's tables


@dataclass(frozen=True)
class Row:
    """A row of a table; `runs` are those it was made from, one a seed. `cells` are by column."""

    label: str
    layers: tuple[int, ...] | None
    fraction: float
    runs: tuple[Run, ...]
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """An artefact of the paper for one model: benchmarks, then `average` and `share` where it has them."""

    name: str
    title: str
    model: str
    columns: dict[str, str]  # with their names in print
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


def build(artefact: Artefact, paper: Paper, runs: Sequence[Run], scores: Scores) -> list[Table]:
    """The artefact for each model that has runs of it, and each setting apart: nothing but layers, data and seed may
    differ inside a table; a setting beside the largest takes two rows. Models that are not the artefact's get its
    layout without its scores: they are of another model and other questions, only its shares can be compared."""
    found = []
    for model in sorted({run.model for run in runs}):
        groups = settings(list(runs), model)
        for number, (group, apart) in enumerate(zip(groups, told_apart(groups), strict=True)):
            weights = setting(group[0])["weights"]
            untouched = [run for run in runs if run.is_untouched and run.record.identity["weights"] == weights]
            made = _table(artefact, paper, [*group, *untouched], scores, apart=apart, number=number + 1)
            filled = [row for row in made.rows if any(cell.value is not None for cell in row.cells.values())]
            others = [row for row in filled if row.layers != tuple(range(group[0].depth))]
            if others and (number == 0 or len(filled) > 1):
                found.append(made)
    return found


def layers_of(printed: Printed, depth: int, paper: Paper) -> tuple[int, ...] | None:
    """The layers that a row of the paper means in a model of that depth; None where it cannot be said."""
    if printed.num_layers == 0:
        return ()
    if printed.selector == "all":
        return tuple(range(depth))
    if printed.layers and paper.models[printed.model].num_layers == depth:
        return printed.layers
    k, name = printed.num_layers, printed.selector or ""
    if k > depth:
        return None
    if name == "sparse_uniform":
        return rules.sparse_uniform(depth, k)
    if name == "hybrid_top_lower":
        return rules.hybrid_top_lower(depth, k)
    if name.startswith("consecutive_"):
        return rules.consecutive(depth, k, start=name.removeprefix("consecutive_"))
    return None  # a list by importance says nothing of another depth


def _table(artefact: Artefact, paper: Paper, runs: list[Run], scores: Scores, *, apart: str, number: int) -> Table:
    model, depth = runs[0].model, runs[0].depth
    own = bool(artefact.rows_of(model))
    source = model if own else artefact.rows[0].model
    columns = {name: paper.columns[name] for name in artefact.columns}
    if artefact.has_average:
        columns |= {"average": "average", "share": "of all layers"}

    def members(layers: tuple[int, ...] | None, fraction: float) -> list[Run]:
        alike = [run for run in runs if layers is not None and run.layers == set(layers) and run.fraction == fraction]
        return [run for run in alike if run.is_tuned == bool(layers)]

    rows = []
    for printed in artefact.rows_of(source):
        layers = layers_of(printed, depth, paper)
        whole = printed.selector == "all"
        label = printed.label.replace(f"{printed.num_layers} layers", f"{depth} layers") if whole else printed.label
        mine, reference = members(layers, printed.fraction), members(tuple(range(depth)), printed.fraction)
        cells = {name: measured([name], mine, reference, scores, compare=not whole) for name in artefact.columns}
        if artefact.has_average:
            cells["average"] = measured(artefact.columns, mine, reference, scores, compare=not whole)
            cells["share"] = Cell(value=cells["average"].share)
        for column in cells if own else cells.keys() & {"share"}:
            cells[column] = beside(cells[column], artefact, printed, column)
        rows.append(Row(label, layers, printed.fraction, tuple(mine), cells))
    if artefact.name == "table1":
        rows += _unprinted(artefact, artefact.rows_of(source), runs, scores)
    title = artefact.title if own else f"{artefact.title}, with {model} for {paper.models[source].title}"
    title += f" ({apart})" if apart else ""
    name = f"{artefact.name}_{model}" + (f"_{number}" if number > 1 else "")
    return Table(name, title, model, columns, tuple(rows), tuple(_notes(rows, own=own)))


def _unprinted(artefact: Artefact, rows: Sequence[Printed], runs: list[Run], scores: Scores) -> list[Row]:
    """Rows of selectors that the table does not print, such as freshly scored ones and controls, with as many layers.

    They go by name: another seed's scores, or lot, choose other layers.
    """
    found: dict[str, list[Run]] = {}
    counts, whole = {row.num_layers for row in rows}, [run for run in runs if len(run.layers) == run.depth]
    reference = [run for run in whole if run.fraction == 1]
    for run in runs:
        if run.is_tuned and run.fraction == 1 and len(run.layers) in counts and run not in whole:
            for name in set(run.record.selectors) - {row.selector for row in rows} - {"layers"}:
                found.setdefault(name, []).append(run)
    made = []
    for name, mine in sorted(found.items()):
        layers = {tuple(sorted(run.layers)) for run in mine}
        cells = {column: measured([column], mine, reference, scores, compare=True) for column in artefact.columns}
        cells["average"] = measured(artefact.columns, mine, reference, scores, compare=True)
        cells["share"] = Cell(value=cells["average"].share)
        label = f"Ours: {name.replace('_', ' ')}"
        made.append(Row(label, layers.pop() if len(layers) == 1 else None, 1.0, tuple(mine), cells))
    return made


def _notes(rows: list[Row], *, own: bool) -> list[str]:
    """What a reader must know to read the table's marks."""
    cells = [cell for row in rows for cell in row.cells.values()]
    notes = ["In percent; ± is the standard error over the questions."]
    if seeds := sorted({cell.num_seeds for cell in cells if cell.num_seeds > 1}):
        several = " or ".join(map(str, seeds))
        notes.append(f"Of {several} seeds the mean stands there, and ± is the standard deviation between them.")
    if any(cell.versus for cell in cells):
        notes.append(
            "* differs from all layers: zero is outside the 95 % interval of a paired bootstrap over the questions. "
            "Of such marks one in twenty comes by chance; what another seed would change is not in it."
        )
    sizes = [{row.cells[name].num_samples for row in rows} - {None} for name in rows[0].cells]
    if any(len(found) > 1 for found in sizes):
        notes.append("Not all rows were asked the same number of questions.")
    if any(row.layers is None and row.runs for row in rows):
        notes.append("Rows of ours whose seeds chose different layers go by the selector's name.")
    for row in rows:
        for cell in row.cells.values():
            if cell.erratum is not None:
                right = cell.erratum.recomputed
                told = [f"the row's own cells give {right:.2f}"] if right is not None else []
                told += [cell.erratum.note] if cell.erratum.note else []
                notes.append(f"† {row.label}: {cell.erratum.printed:.2f} is printed; {'; '.join(told)}.")
    if not own:
        notes.append(
            "The paper's scores, of another model and other questions, are left out; its shares of all layers stand."
        )
    return notes
