"""`vrx compare`: one question about one picture, answered by several runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.jobs.asked_model import finished_model, one_process, picture_of, require_question, working_folder
from vrx.jobs.compare import answers_file
from vrx.jobs.compared_models import COLUMNS, answer_row, compared_models, write_models
from vrx.launch.workers import launch
from vrx.runs.files import read_json
from vrx.runs.run_config import write_config

EXAMPLE = "vrx compare 'compare.runs=[outputs/finetune/tiny/…]' image=picture.png question=…"


def compare(run: RunConfig) -> None:
    """Print a row for each run: what it answers, and how probable each option or first token is. Leaves no file."""
    options, picture = required(run.compare), picture_of(run)
    if run.question is None:
        raise UserError(f"question=null: what shall the runs answer? For example: {EXAMPLE}")
    require_question(run)
    _require_different("compare.options", [text.strip() for text in options.options or ()])
    _require_different("compare.runs", [str(Path(run_dir).resolve()) for run_dir in options.runs])
    if not options.runs and not options.untouched:
        raise UserError(f"compare.runs=[]: names no run; for example: {EXAMPLE}")
    if run.job.run is not None:
        raise UserError(f"job.run={run.job.run}: vrx compare takes compare.runs=[{run.job.run}]")
    image = None if picture is None else str(picture.absolute())
    run = dataclasses.replace(run, image=image, runtime=one_process(run.runtime))
    finished = [finished_model(run, run_dir, key="compare.runs") for run_dir in options.runs]
    models = compared_models(run, finished, untouched=options.untouched)
    with working_folder(run) as folder:
        write_models(folder, [model.run for model in models], run.runtime)
        write_config(folder, run)
        launch("compare", folder, run.runtime)
        answers = read_json(answers_file(folder))
    print(table([answer_row(model.name, answer) for model, answer in zip(models, answers, strict=True)]))


def _require_different(key: str, values: Sequence[str]) -> None:
    """Refuse what would make an empty row or column, or one twice: `UserError`."""
    for value in values:
        if not value or values.count(value) > 1:
            what = f"{value} is there twice" if value else "a blank text"
            raise UserError(f"{key}=[{','.join(values)}]: {what}; valid are different ones")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under the heads of their columns, which are as wide as their longest text."""
    rows = [COLUMNS, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)
