"""What the paper prints, read from `paper.yaml`: its tables, its figures where the text gives numbers, its misprints.

Numbers are as printed: percent (perplexities where an artefact says so), in the order of the artefact's columns.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from vrx.config.paths import PACKAGE


@dataclass(frozen=True)
class PaperModel:
    """A model of the paper by the name it has in conf/model."""

    name: str
    title: str
    num_layers: int


@dataclass(frozen=True)
class Row:
    """A row and what tells its run: a model, a selector of conf/selector, how many layers it tunes, how much data.

    `layers` is the list where the paper prints one; `num_layers` is 0 for the untouched backbone. `reverted` are the
    first and the last layer put back to the backbone. `share` is of the average of all layers.
    """

    label: str
    model: str
    selector: str | None
    num_layers: int
    layers: tuple[int, ...] | None
    fraction: float
    values: tuple[float | None, ...]
    average: float | None = None
    share: float | None = None
    reverted: tuple[int, int] | None = None


@dataclass(frozen=True)
class Erratum:
    """A number that does not fit its own table: `column` is a benchmark, `average` or `share`."""

    row: str
    column: str
    printed: float
    recomputed: float | None = None  # from the row's own cells
    note: str = ""


@dataclass(frozen=True)
class Remark:
    """What does not fit elsewhere in the paper."""

    where: str
    note: str


@dataclass(frozen=True)
class Artefact:
    """A table, or a figure's numbers. Its rows may be of several models."""

    name: str
    title: str
    unit: str  # percent | perplexity
    columns: tuple[str, ...]  # benchmarks, named as in conf/benchmark
    rows: tuple[Row, ...]
    errata: tuple[Erratum, ...]

    @property
    def has_average(self) -> bool:
        return any(row.average is not None for row in self.rows)

    def erratum(self, row: Row, column: str) -> Erratum | None:
        found = (erratum for erratum in self.errata if (erratum.row, erratum.column) == (row.label, column))
        return next(found, None)

    def rows_of(self, model: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.model == model)

    def all_layers(self, row: Row) -> Row | None:
        """The row that differs from this one only in tuning every layer."""
        of_the_same = (other for other in self.rows_of(row.model) if other.fraction == row.fraction)
        return next((other for other in of_the_same if other.selector == "all" and other.reverted is None), None)


@dataclass(frozen=True)
class Paper:
    """The whole of it; `columns` gives a benchmark the name it has in print."""

    title: str
    arxiv: str
    models: Mapping[str, PaperModel]
    columns: Mapping[str, str]
    artefacts: Mapping[str, Artefact]
    errata: tuple[Remark, ...]


@functools.cache
def load() -> Paper:
    """The paper's numbers; the file is read once."""
    told = yaml.safe_load((PACKAGE / "report" / "paper.yaml").read_text(encoding="utf-8"))
    return Paper(
        title=told["title"],
        arxiv=told["arxiv"],
        models={name: PaperModel(name, **rest) for name, rest in told["models"].items()},
        columns=told["columns"],
        artefacts={name: _artefact(name, part, told) for name, part in told["artefacts"].items()},
        errata=tuple(Remark(**remark) for remark in told["errata"]),
    )


def _artefact(name: str, told: dict[str, Any], paper: dict[str, Any]) -> Artefact:
    columns = tuple(told["columns"])

    def row(part: dict[str, Any]) -> Row:
        model, selector = part.get("model") or told["model"], part.get("selector")
        values = tuple(part.get("values", [None] * len(columns)))
        assert len(values) == len(columns), f"paper.yaml: {name}, {part['label']}: {len(values)} values"
        depth = paper["models"][model]["num_layers"]
        printed = paper["layers"].get(depth, {}).get(selector, {}).get(part["num_layers"])
        reverted = tuple(part["reverted"]) if "reverted" in part else None
        return Row(
            label=part["label"],
            model=model,
            selector=selector,
            num_layers=part["num_layers"],
            layers=tuple(printed) if printed else None,
            fraction=float(part.get("fraction", 1)),
            values=values,
            average=part.get("average"),
            share=part.get("share"),
            reverted=reverted,  # type: ignore[arg-type]
        )

    return Artefact(
        name=name,
        title=told["title"],
        unit=told.get("unit", "percent"),
        columns=columns,
        rows=tuple(row(part) for part in told["rows"]),
        errata=tuple(Erratum(**erratum) for erratum in told.get("errata", [])),
    )
