"""One HTML page with everything in it: opens from disk, asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from vrx.config.paths import PACKAGE
from vrx.report import formats
from vrx.report.collect import Run
from vrx.report.paper import Paper
from vrx.report.prediction_samples import PredictionGallery
from vrx.report.tables import Table, average, tasks
from vrx.runs.layer_selection import format_layers

FOLDER = PACKAGE / "report"


def render_page(
    paper: Paper,
    tables: Sequence[Table],
    pictures: Sequence[tuple[str, str, bytes]],
    runs: Sequence[Run],
    galleries: Sequence[PredictionGallery],
    *,
    place: Path,
) -> str:
    """The page that will lie at `place`; `pictures` are (name, title, PNG). Data is escaped: none becomes markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    drawn = [(name, title, f"data:image/png;base64,{base64.b64encode(png).decode()}") for name, title, png in pictures]
    return environment.get_template("page.html").render(
        paper=paper,
        tables=tables,
        pictures=drawn,
        runs=runs,
        galleries=galleries,
        ours=formats.ours,
        papers=formats.papers,
        label=formats.label,
        link=lambda run, name: link(run.folder / name, place.parent),
        columns=RUN_COLUMNS,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def link(path: Path, start: Path) -> str:
    """The way from one place to another, as a URL."""
    return quote(Path(os.path.relpath(path, start)).as_posix())


def _train(key: str) -> Callable[[Run], Any]:
    return lambda run: getattr(run.train, key)


RUN_COLUMNS: dict[str, Callable[[Run], object]] = {
    "model": lambda run: run.model,
    "layers": lambda run: format_layers(run.record.layers) or "untouched",
    "number": lambda run: len(run.layers),
    "data (%)": lambda run: 100 * run.fraction if run.is_tuned else None,
    "seed": lambda run: run.seed,
    "mean score (%)": lambda run: 100 * (average(run.record, tasks(run.record)) or 0.0),
    "benchmarks": lambda run: len(run.record.scores),
    "steps": _train("steps"),
    "seconds": _train("seconds"),
    "GPU-hours": _train("gpu_hours"),
    "tokens/s": _train("tokens_per_second"),
    "MFU (%)": lambda run: 100 * mfu if (mfu := _train("mfu")(run)) is not None else None,
    "waited for data (s)": _train("seconds_waiting_for_data"),
    "peak memory (GB)": _train("peak_memory_gb"),
    "trainable": _train("trainable_parameters"),
    "final loss": _train("final_loss"),
    "commit": lambda run: run.git_commit[:10],
}
