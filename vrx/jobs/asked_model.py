"""The LVLM that a command only uses: a finished run or the base model, and one worker in a folder of its own."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.paths import below, resolve_path
from vrx.config.schema import RunConfig, RuntimeConfig
from vrx.jobs.source_run import read_finished_run
from vrx.launch.gpus import count_gpus
from vrx.runs.record import Record
from vrx.runs.results import require_weights
from vrx.runs.run_dir import RunDir
from vrx.runs.status import require_record
from vrx.runs.surgery_manifest import read_surgery
from vrx.runs.trained_files import require_unchanged

NO_PICTURE = "none"


def finished_model(run: RunConfig, run_dir: str | None, *, key: str = "job.run") -> tuple[RunConfig, Record | None]:
    """The command with model and precision of a finished run, and the run's record; without a run, of the base model.

    The command's `job.run` is then the run's directory. `UserError` for a run that is not finished, that has no weights
    here or damaged ones, and for the pre-training of a projector.
    """
    if run_dir is None:
        return run, None
    folder = Path(run_dir).absolute()
    require_record(Path(run_dir), key=key)
    require_weights(folder, key=key)
    record, config = read_finished_run(folder, run.model)
    if record.is_pretraining:
        raise UserError(f"{key}={run_dir}: a pre-training of the projector; valid is a run that tuned layers")
    require_unchanged(read_surgery(folder).source)
    job = dataclasses.replace(run.job, run=str(folder))
    return dataclasses.replace(run, model=config.model, train=config.train, lora=config.lora, job=job), record


def picture_of(run: RunConfig) -> Path | None:
    """The picture that is asked about; None for `image=none`. `UserError` where it is missing."""
    if run.image is None:
        raise UserError(
            f"image=null: a question needs its picture; run: vrx {run.job.name} image=picture.png …, "
            f"or image={NO_PICTURE} for one about text alone"
        )
    if run.image == NO_PICTURE:
        return None
    path = Path(resolve_path(run.image))
    if not path.is_file():
        raise UserError(f"image={run.image}: no such file")
    return path


def require_question(run: RunConfig) -> None:
    """Refuse a question of blanks alone: `UserError`."""
    if run.question is not None and not run.question.strip():
        raise UserError(f'question={run.question!r}: is blank; valid is a text, as in question="What is it?"')


def one_process(runtime: RuntimeConfig) -> RuntimeConfig:
    """The runtime of a single worker on this machine, which needs no torchrun."""
    gpus = min(1, count_gpus()) if runtime.num_gpus is None else min(1, runtime.num_gpus)
    return dataclasses.replace(runtime, num_gpus=gpus, cpu_processes=1)


@contextmanager
def working_folder(run: RunConfig) -> Iterator[Path]:
    """A folder for the worker of a command that leaves nothing; it stays only where the worker failed."""
    parent = below(run.runtime.output_path, run.job.name)
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", dir=parent)).absolute()
    try:
        yield folder
    except BaseException:
        if not RunDir(folder).worker_log.is_file():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
