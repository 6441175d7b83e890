"""`vrx demo`: a page in the browser on which several runs answer a question about a picture side by side."""

from __future__ import annotations

import dataclasses
import importlib.util
import socket

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.jobs.asked_model import finished_model, one_process, working_folder
from vrx.jobs.compared_models import ComparedModel, compared_models, write_models
from vrx.jobs.demo import HOST, models_folder, names_file
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.report.collect import record_files
from vrx.runs.files import write_json
from vrx.runs.record import Record, read_record
from vrx.runs.results import is_copy
from vrx.runs.run_config import write_config

FIRST_PORT, NUM_PORTS = 7860, 100  # Gradio's own


def demo(run: RunConfig) -> None:
    """Serve the page until Ctrl-C. Leaves no file."""
    options = required(run.demo)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("job=demo: the page needs Gradio, which is not installed; run: pip install 'vrx[demo]'")
    if run.job.run is not None:
        raise UserError(f"job.run={run.job.run}: vrx demo takes demo.runs=[{run.job.run}]")
    models = offered_models(run)
    options = dataclasses.replace(options, port=free_port(options.port))
    run = dataclasses.replace(run, demo=options, runtime=one_process(run.runtime))
    with working_folder(run) as folder:
        write_models(models_folder(folder), [model.run for model in models], run.runtime)
        write_json(names_file(folder), [model.name for model in models])
        write_config(folder, run)
        try:
            launch("demo", folder, run.runtime)
        except KeyboardInterrupt:
            log("the page is closed")


def offered_models(run: RunConfig) -> list[ComparedModel]:
    """The models of `demo.runs`, else of the finished runs below the output root, in the order of the page.

    `UserError` for a run of `demo.runs` that cannot be asked, and where there is none.
    """
    options = required(run.demo)
    finished = [finished_model(run, run_dir, key="demo.runs") for run_dir in options.runs] or _found(run)
    if not finished:
        raise UserError(
            f"demo.runs=[]: no finished run with weights below runtime.output_root={run.runtime.output_root}; "
            "make one first, run: vrx"
        )
    return compared_models(run, finished, untouched=options.untouched)


def _found(run: RunConfig) -> list[tuple[RunConfig, Record | None]]:
    """The runs below the output root that have weights of their own; those of them that cannot be asked are named."""
    found = []
    for path in record_files(run.runtime.output_path):
        try:
            record = read_record(path)
            if not (is_copy(path.parent) or record.is_pretraining or record.is_base_model or record.is_from_elsewhere):
                found.append(finished_model(run, str(path.parent), key="demo.runs"))
        except (UserError, OSError) as error:
            log(f"not on the page: {error}")
    return found


def free_port(port: int | None) -> int:
    """A port of this machine that nothing listens to: the given one, else the first from 7860 on.

    `UserError` where it is taken.
    """
    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + NUM_PORTS):
        try:
            socket.create_server((HOST, candidate)).close()
        except OSError:
            continue
        return candidate
    taken = (
        f"demo.port={port}: is taken" if port is not None else f"demo.port=null: {FIRST_PORT} and the next are taken"
    )
    raise UserError(f"{taken}; valid is a port that no other program listens to, or null for a free one from 7860 on")
