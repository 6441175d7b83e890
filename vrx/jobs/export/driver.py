"""`vrx export`: a finished run, or the base model, as one folder that needs nothing of vrx."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.job_options import ExportConfig, required
from vrx.config.paths import as_file_name, below
from vrx.config.schema import RunConfig
from vrx.jobs.asked_model import finished_model, one_process, working_folder
from vrx.jobs.export import files_folder
from vrx.jobs.export.model_card import model_card
from vrx.launch.logging import log
from vrx.launch.workers import launch
from vrx.runs.files import write_atomic
from vrx.runs.importance_files import UNTOUCHED
from vrx.runs.record import Record
from vrx.runs.run_config import write_config


def export(run: RunConfig) -> None:
    """Write the folder, which is there whole or not at all, and upload it where `export.push_to_hub` says so."""
    options = required(run.export)
    run, record = finished_model(run, run.job.run)
    folder = _new_folder(run, options)
    if options.adapter:
        _require_adapter(run, record)
    if options.push_to_hub is not None:
        _require_token(options.push_to_hub)
    run = dataclasses.replace(run, runtime=one_process(run.runtime))
    with working_folder(run) as work:
        write_config(work, run)
        launch("export", work, run.runtime)
        write_atomic(files_folder(work) / "README.md", model_card(run, record, title=folder.name))
        folder.parent.mkdir(parents=True, exist_ok=True)
        files_folder(work).replace(folder)
    print(f"exported: {folder}")
    if options.push_to_hub is not None:
        _upload(folder, options.push_to_hub)


def _new_folder(run: RunConfig, options: ExportConfig) -> Path:
    if options.folder is not None:
        folder = Path(options.folder).absolute()
    else:
        name = UNTOUCHED if run.job.run is None else Path(run.job.run).name
        name += "_adapter" if options.adapter else ""
        folder = below(run.runtime.output_path, "export", as_file_name(run.model.name), as_file_name(name)).absolute()
    if folder.exists():
        raise UserError(
            f"export.folder={folder}: exists already; remove it, or name another: vrx export export.folder=…"
        )
    return folder


def _require_adapter(run: RunConfig, record: Record | None) -> None:
    """Refuse what no adapter can express: `UserError`."""
    if record is None or record.is_base_model:
        raise UserError("export.adapter=true: nothing was tuned; run: vrx export job.run=<directory of a fine-tune>")
    if not record.is_finetune:
        raise UserError(
            f"export.adapter=true: layers of {run.job.run} were reverted or pruned, which no adapter tells; "
            f"run: vrx export job.run={run.job.run}"
        )


def _require_token(repository: str) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError(f"export.push_to_hub={repository}: no account of the hub is set up; run: hf auth login")


def _upload(folder: Path, repository: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"export.push_to_hub={repository}: {reason}; the folder is complete, run: hf upload {repository} {folder}"
        ) from None
    log(f"uploaded to {repository}, private; choose the licence in its README.md before you share it")
