"""The stage `compare`: the answers of several LVLMs to one question, one in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.evaluation.asking import answer_with_probabilities, load_asked, require_picture
from vrx.jobs.compare import answers_file
from vrx.jobs.compared_models import model_folders
from vrx.launch.ranks import set_ready
from vrx.runs.files import write_json
from vrx.runs.run_config import read_command_config


def compare(_: RunConfig, folder: Path) -> None:
    """Write `answers.json`: of each model its answer, and the probability of each option or of the first tokens."""
    answers = []
    for model_folder in model_folders(folder):
        answers.append(_answer(read_command_config(model_folder), model_folder))
        set_ready(folder)
    write_json(answers_file(folder), answers)


def _answer(run: RunConfig, folder: Path) -> dict[str, Any]:
    options = required(run.compare)
    image = require_picture(run.image)
    return answer_with_probabilities(
        load_asked(run, folder),
        str(run.question),
        image,
        options=options.options or (),
        num_tokens=options.first_tokens,
        max_new_tokens=options.max_new_tokens,
    )
