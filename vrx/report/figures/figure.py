"""What every figure can do, whatever it looks like, and what builders of figures are given."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from vrx.report.collect import Run
from vrx.report.paper import Paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

FileFormat = Literal["png", "pdf"]
FILE_FORMATS: tuple[FileFormat, ...] = ("png", "pdf")


@dataclass(frozen=True)
class Chart:
    """The numbers of a figure, or of one of its panels, for an interactive chart.

    Rows of `lines` are (x, name of the line, y), rows of `heat map` are (x, name of the row, value). A `table` has no
    chart: its rows are shown as they are.
    """

    name: str
    title: str
    kind: Literal["lines", "heat map", "table"]
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


class Figure(Protocol):
    """A figure: a drawing, a text with its numbers, and these numbers as charts."""

    @property
    def name(self) -> str: ...  # of its files, begins with the name of the paper's figure

    @property
    def title(self) -> str: ...

    def draw(self, file_format: FileFormat) -> bytes:
        """The content of an image file; the same figure gives the same bytes in every process."""
        ...

    def as_text(self) -> str:
        """The numbers, for a terminal."""
        ...

    def charts(self) -> list[Chart]: ...


@dataclass(frozen=True)
class FigureInputs:
    """What a figure is made from: runs, the paper, and the folders of other jobs' files.

    model: only figures of this model, where one is named.
    """

    runs: Sequence[Run]
    paper: Paper
    roots: Sequence[Path] = ()
    model: str | None = None

    def model_title(self, model: str) -> str:
        """The name that the paper prints for a model, else the model's own."""
        return self.paper.models[model].title if model in self.paper.models else model


def set_style() -> None:
    """matplotlib's defaults in small print, with a text taken as it is: a name with `$` is no formula."""
    import matplotlib

    matplotlib.rcdefaults()
    matplotlib.rcParams.update({"font.size": 9, "text.parse_math": False})


def image_bytes(figure: MatplotlibFigure, file_format: FileFormat) -> bytes:
    """A drawn figure as the content of a file, without dates and program versions."""
    file = io.BytesIO()
    without = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
    figure.savefig(file, format=file_format, dpi=200, metadata=without[file_format])
    return file.getvalue()
