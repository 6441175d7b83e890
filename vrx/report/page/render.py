"""Puts the page together; its parts come from the other modules of this package."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from vrx.config.paths import PACKAGE
from vrx.launch.logging import log
from vrx.report import formats
from vrx.report.calibration import calibrate
from vrx.report.claims import NOTES, Judgement
from vrx.report.collect import Run
from vrx.report.figures.figure import Figure
from vrx.report.page import layer_strips
from vrx.report.page.charts import HeatChart, PageChart, charts_of
from vrx.report.page.pictures import Pictures
from vrx.report.page.questions import compare_questions
from vrx.report.page.regions import COSTS, ModelRegions, cost_charts, model_regions
from vrx.report.page.summary import facts
from vrx.report.page.training_curves import curve_charts
from vrx.report.paper import Paper
from vrx.report.run_columns import RUN_COLUMNS
from vrx.report.run_groups import group_by_setting
from vrx.report.tables import Table
from vrx.report.training_time import NOTE
from vrx.runs.run_dir import RunDir

TEMPLATES = PACKAGE / "report" / "page"
SCRIPTS = ("tables.js", "drawing.js", "charts.js", "heat_maps.js", "questions.js")
MAX_BYTES = 30_000_000  # of a page; a larger one has its pictures beside it
PARTS = {
    "summary": "Summary",
    "regions": "Score and cost",
    "tables": "Tables",
    "figures": "Figures",
    "curves": "Training curves",
    "predictions": "Questions",
    "runs": "Runs",
    "errata": "Misprints",
}


@dataclass(frozen=True)
class PageContents:
    """What the page is made from. `pngs` are the figures' pictures by name, `roots` the folders of other jobs' files.

    artifacts: the name of each table and figure of the paper that runs can make, with whether it has any.
    """

    paper: Paper
    tables: Sequence[Table]
    figures: Sequence[Figure]
    runs: Sequence[Run]
    claims: Sequence[Judgement] = ()
    pngs: Mapping[str, bytes] = field(default_factory=dict)
    roots: Sequence[Path] = ()
    artifacts: Sequence[str] = ()
    with_predictions: bool = True


@dataclass(frozen=True)
class Page:
    """The page, and the files beside it by their path relative to it."""

    html: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def render_page(contents: PageContents, *, path: Path, max_bytes: int = MAX_BYTES) -> Page:
    """The page that will be at `path`, for its links. All data is escaped; the page's own script is the only one.

    Where it would be larger than `max_bytes`, its pictures become files beside it.
    """
    pictures = Pictures()
    regions = model_regions(contents.runs)
    start = next((pair for model in regions if (pair := model.first_comparison)), ())
    questions = compare_questions(contents.runs, pictures, start) if contents.with_predictions else None
    values = _values(contents, regions, path)
    html = _fill(values, questions, pictures.uris)
    if len(html) <= max_bytes or not pictures.uris:
        return Page(html)
    files = pictures.files()
    log(f"the page would be larger than {max_bytes / 1e6:.0f} MB: its pictures are files beside it")
    return Page(_fill(values, questions, list(files), pictures_beside=True), files)


def _fill(
    values: Mapping[str, Any],
    questions: Mapping[str, Any] | None,
    uris: Sequence[str],
    *,
    pictures_beside: bool = False,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals.update(values["functions"])
    environment.filters["capital"] = lambda text: text[:1].upper() + text[1:]
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("page.html").render(
        **values,
        questions=None if questions is None else {**questions, "pictures": uris},
        pictures_beside=pictures_beside,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _values(contents: PageContents, regions: Sequence[ModelRegions], path: Path) -> dict[str, Any]:
    paper, runs = contents.paper, contents.runs
    tuned = sorted({run.model for run in runs if run.is_tuned})
    curves = {model: curve_charts(group_by_setting(runs, model)[0]) for model in tuned}
    figures = [(figure, _png(figure, contents.pngs) if not charts_of(figure) else "") for figure in contents.figures]
    functions: Mapping[str, Callable[..., object]] = {
        "our_number": formats.our_number,
        "paper_number": formats.paper_number,
        "row_label": formats.row_label,
        "link": lambda run, name: relative_url(run.folder / name, path.parent),
        "has_config": lambda run: RunDir(run.folder).config.is_file(),
        "run_strip": layer_strips.run_strip,
        "cost_charts": cost_charts,
        "charts_of": charts_of,
        "json": as_json,
        "selectors": lambda runs: "\n".join(sorted({name for run in runs for name in run.record.selectors})),
        "seeds": lambda runs: "\n".join(sorted({str(run.seed) for run in runs if run.seed is not None})),
        "command_of": lambda table: sweep_command(_artifact_of(table.name, contents.artifacts), table.model),
    }
    missing = [name for name in contents.artifacts if not _has(name, [*contents.tables, *contents.figures])]
    return {
        "functions": functions,
        "paper": paper,
        "tables": contents.tables,
        "figures": figures,
        "runs": runs,
        "regions": regions,
        "costs": [name for name in COSTS if any(name in each.costs for group in regions for each in group.regions)],
        "had_pauses": any(run.had_pauses for run in runs),
        "pause_note": NOTE,
        "facts": facts(runs) if runs else {},
        "claims": contents.claims,
        "claim_notes": NOTES,
        "calibrations": calibrate(runs),
        "importance": layer_strips.find_importance(runs, contents.roots),
        "curves": {model: charts for model, charts in curves.items() if charts},
        "choices": {
            "model": sorted({run.model for run in runs}),
            "selector": sorted({name for run in runs for name in run.record.selectors}),
            "seed": sorted({run.seed for run in runs if run.seed is not None}),
        },
        "parts": [(anchor, name) for anchor, name in PARTS.items() if anchor != "curves" or any(curves.values())],
        "not_run": [(paper.artifacts[name].title, sweep_command(name)) for name in missing],
        "num_errata": sum(len(each.errata) for each in paper.artifacts.values()) + len(paper.errata),
        "columns": RUN_COLUMNS,
    }


def as_json(value: Any) -> Markup:
    """Data for the page's script: JSON in which no tag can begin or end."""

    def plain(each: object) -> Any:
        return each.to_json() if isinstance(each, PageChart | HeatChart) else str(each)

    text = json.dumps(value, default=plain, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def sweep_command(artifact: str, model: str | None = None) -> str:
    """The command that makes the runs of a table or figure."""
    return f"vrx sweep={artifact}" + (f" model={shlex.quote(model)}" if model else "")


def relative_url(path: Path, start: Path) -> str:
    """The URL of a file relative to a folder."""
    return quote(Path(os.path.relpath(path, start)).as_posix())


def _artifact_of(name: str, artifacts: Sequence[str]) -> str:
    return max((each for each in artifacts if name.startswith(f"{each}_")), key=len, default=name)


def _has(artifact: str, made: Sequence[Table | Figure]) -> bool:
    return any(each.name == artifact or each.name.startswith(f"{artifact}_") for each in made)


def _png(figure: Figure, pngs: Mapping[str, bytes]) -> str:
    return f"data:image/png;base64,{base64.b64encode(pngs[figure.name]).decode()}"
