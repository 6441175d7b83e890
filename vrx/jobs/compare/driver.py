"""`vrx compare`: one question about one picture, answered by several runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.jobs.asked_model import finished_model, one_process, picture_of, working_folder
from vrx.jobs.compare import answers_file
from vrx.launch.workers import launch
from vrx.runs.files import read_json
from vrx.runs.layer_selection import format_layers
from vrx.runs.record import Record
from vrx.runs.run_config import write_config

EXAMPLE = "vrx compare 'compare.runs=[outputs/finetune/tiny/…]' image=picture.png question=…"


def compare(run: RunConfig) -> None:
    """Print a row for each run: what it answers, and how probable each option or first token is. Leaves no file."""
    options, picture = required(run.compare), picture_of(run)
    if run.question is None:
        raise UserError(f"question=null: what shall the runs answer? For example: {EXAMPLE}")
    if not options.runs and not options.untouched:
        raise UserError(f"compare.runs=[]: names no run; for example: {EXAMPLE}")
    if run.job.run is not None:
        raise UserError(f"job.run={run.job.run}: vrx compare takes compare.runs=[{run.job.run}]")
    finished = [finished_model(run, run_dir, key="compare.runs") for run_dir in options.runs]
    base = finished[0][0] if finished else run  # before its tuning
    models = [(dataclasses.replace(base, job=run.job), None), *finished] if options.untouched else finished
    image = None if picture is None else str(picture.absolute())
    runtime = one_process(run.runtime)
    with working_folder(run) as folder:
        for number, (model, _) in enumerate(models):
            write_config(folder / f"{number:03}", dataclasses.replace(model, image=image, runtime=runtime))
        write_config(folder, dataclasses.replace(run, runtime=runtime))
        launch("compare", folder, runtime)
        answers = read_json(answers_file(folder))
    print(table([describe(model, record) for model, record in models], answers))


def describe(run: RunConfig, record: Record | None) -> str:
    """Which layers of a model were tuned, reverted and pruned, in a few words."""
    if record is None:
        return f"{run.model.name}, untouched"
    parts = [f"tuned {format_layers(record.layers)}"] if record.layers else ["untouched"]
    parts += [f"reverted {format_layers(record.reverted_layers)}"] if record.reverted_layers else []
    parts += [f"pruned {format_layers(record.pruned_layers)}"] if record.pruned_layers else []
    return f"{record.run_id}: {', '.join(parts)}"


def table(names: Sequence[str], answers: Sequence[dict[str, Any]]) -> str:
    """Rows of the runs: name, answer, and probabilities in percent."""
    rows = [["run", "answer", "probability in percent"]]
    for name, answer in zip(names, answers, strict=True):
        shares = "  ".join(f"{_shown(text)} {100 * share:.1f}" for text, share in answer["probabilities"])
        rows.append([name, _shown(answer["text"]), shares])
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)


def _shown(text: str) -> str:
    """A text of the model in one line, without signs that a terminal would act on."""
    stripped = text.strip()
    return stripped if stripped and stripped.isprintable() else repr(text)
