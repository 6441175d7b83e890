"""`vrx ask`: a question about a picture, or a conversation about it, with a finished run or the base model."""

from __future__ import annotations

import dataclasses

from vrx.config.schema import RunConfig
from vrx.jobs.asked_model import finished_model, one_process, picture_of, require_question, working_folder
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.runs.run_config import write_config


def ask(run: RunConfig) -> None:
    """Print the answer; without `question` read questions from the terminal. Leaves no file."""
    picture = picture_of(run)
    require_question(run)
    run, _ = finished_model(run, run.job.run)
    if run.question is None:
        log("type a question; an empty line ends the conversation")
    run = dataclasses.replace(
        run, image=None if picture is None else str(picture.absolute()), runtime=one_process(run.runtime)
    )
    with working_folder(run) as folder:
        write_config(folder, run)
        launch("ask", folder, run.runtime)
