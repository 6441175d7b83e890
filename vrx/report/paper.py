"""What the paper prints, read from `paper.yaml`: its tables, its figures where the text gives numbers, its misprints.

Numbers are as printed: percent (perplexities where an artifact says so), in the order of the artifact's columns.
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
class PaperRow:
    """A printed row, and the run behind it: model, selector of conf/selector, number of layers, share of the data.

    layers: the list where the paper prints one. num_layers: 0 for the untouched backbone. reverted: first and last
    layer reverted to the backbone. share: percent of the average of all layers.
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
    """An inconsistency of the paper that is in no single cell."""

    section: str
    note: str


@dataclass(frozen=True)
class Claim:
    """A claim of the text: `row` of a table scores higher than each row of `against`, on the average of its columns.

    share: it scores higher than this share of theirs. margin: in points; the claim is that the others are no better,
    shown when `row` is not lower by that much. is_lower: the claim is that `row` scores lower. is_change: the claim is
    about what pruning changed.
    """

    name: str
    text: str
    source: str
    table: str
    row: str
    against: tuple[str, ...]
    share: float = 1.0
    margin: float = 0.0
    is_lower: bool = False
    is_change: bool = False


@dataclass(frozen=True)
class Artifact:
    """A table, or a figure's numbers. Its rows may be of several models."""

    name: str
    title: str
    unit: str  # percent | perplexity
    columns: tuple[str, ...]  # benchmarks, named as in conf/benchmark
    rows: tuple[PaperRow, ...]
    errata: tuple[Erratum, ...]
    text_only: bool  # no question has a picture

    @property
    def has_average(self) -> bool:
        return any(row.average is not None for row in self.rows)

    def erratum(self, row: PaperRow, column: str) -> Erratum | None:
        """The misprint in a cell, where it is one."""
        matches = (erratum for erratum in self.errata if (erratum.row, erratum.column) == (row.label, column))
        return next(matches, None)

    def rows_of(self, model: str) -> tuple[PaperRow, ...]:
        """The rows of one model; none where the artifact is of other models."""
        return tuple(row for row in self.rows if row.model == model)

    def all_layers(self, row: PaperRow) -> PaperRow | None:
        """The row that differs from this one only in tuning every layer."""
        same_data = (other for other in self.rows_of(row.model) if other.fraction == row.fraction)
        return next((other for other in same_data if other.selector == "all" and other.reverted is None), None)


@dataclass(frozen=True)
class Paper:
    """All numbers of the paper; `columns` gives a benchmark the name it has in print."""

    title: str
    arxiv: str
    models: Mapping[str, PaperModel]
    columns: Mapping[str, str]
    artifacts: Mapping[str, Artifact]
    claims: tuple[Claim, ...]
    errata: tuple[Remark, ...]


@functools.cache
def load_paper() -> Paper:
    """The paper's numbers; the file is read once."""
    content = yaml.safe_load((PACKAGE / "report" / "paper.yaml").read_text(encoding="utf-8"))
    return Paper(
        title=content["title"],
        arxiv=content["arxiv"],
        models={name: PaperModel(name, **rest) for name, rest in content["models"].items()},
        columns=content["columns"],
        artifacts={name: _artifact(name, part, content) for name, part in content["artifacts"].items()},
        claims=tuple(Claim(**claim | {"against": tuple(claim["against"])}) for claim in content["claims"]),
        errata=tuple(Remark(**remark) for remark in content["errata"]),
    )


def _artifact(name: str, part: dict[str, Any], content: dict[str, Any]) -> Artifact:
    return Artifact(
        name=name,
        title=part["title"],
        unit=part.get("unit", "percent"),
        columns=tuple(part["columns"]),
        rows=tuple(_row(row, name, part, content) for row in part["rows"]),
        errata=tuple(Erratum(**erratum) for erratum in part.get("errata", [])),
        text_only=part.get("text_only", False),
    )


def _row(row: dict[str, Any], name: str, artifact: dict[str, Any], content: dict[str, Any]) -> PaperRow:
    model, selector = row.get("model") or artifact["model"], row.get("selector")
    values = tuple(row.get("values", [None] * len(artifact["columns"])))
    assert len(values) == len(artifact["columns"]), f"paper.yaml: {name}, {row['label']}: {len(values)} values"
    depth = content["models"][model]["num_layers"]
    layers = content["layers"].get(depth, {}).get(selector, {}).get(row["num_layers"])
    first_last = row.get("reverted")
    return PaperRow(
        label=row["label"],
        model=model,
        selector=selector,
        num_layers=row["num_layers"],
        layers=tuple(layers) if layers else None,
        fraction=float(row.get("fraction", 1)),
        values=values,
        average=row.get("average"),
        share=row.get("share"),
        reverted=(first_last[0], first_last[1]) if first_last else None,
    )
