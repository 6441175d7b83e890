"""One self-contained HTML page: opens from disk, needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2

from vrx.config.paths import PACKAGE
from vrx.report import formats
from vrx.report.collect import Run
from vrx.report.paper import Paper
from vrx.report.prediction_samples import PredictionGallery
from vrx.report.run_columns import RUN_COLUMNS
from vrx.report.tables import Table

TEMPLATES = PACKAGE / "report"


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    name: str
    title: str
    png: bytes

    @property
    def data_uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class PageContents:
    """What the page shows, from top to bottom."""

    paper: Paper
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    runs: Sequence[Run]
    galleries: Sequence[PredictionGallery]


def render_page(contents: PageContents, *, path: Path) -> str:
    """The page that will be at `path`, for its links. All data is escaped; the page's own script is the only one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    functions: Mapping[str, Callable[..., object]] = {
        "our_number": formats.our_number,
        "paper_number": formats.paper_number,
        "row_label": formats.row_label,
        "link": lambda run, name: relative_url(run.folder / name, path.parent),
    }
    return environment.get_template("page.html").render(
        paper=contents.paper,
        tables=contents.tables,
        pictures=contents.pictures,
        runs=contents.runs,
        galleries=contents.galleries,
        columns=RUN_COLUMNS,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **functions,
    )


def relative_url(path: Path, start: Path) -> str:
    """The URL of a file relative to a folder."""
    return quote(Path(os.path.relpath(path, start)).as_posix())
