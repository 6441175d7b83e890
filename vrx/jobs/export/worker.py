"""The stage `export`: write a run's LVLM, or its adapter."""

from __future__ import annotations

from pathlib import Path

from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.jobs.export import files_folder
from vrx.launch.devices import DTYPES
from vrx.launch.ranks import set_ready
from vrx.models.export import export_adapter, export_model


def export(run: RunConfig, folder: Path) -> None:
    """Write the files of the export."""
    options, files = required(run.export), files_folder(folder)
    files.mkdir()
    set_ready(folder)
    run_dir = None if run.job.run is None else Path(run.job.run)
    if options.adapter:
        assert run_dir is not None, "refused by the driver"
        export_adapter(run.model, run_dir, files)
        return
    dtype, shard_bytes = DTYPES[options.dtype or run.train.dtype], int(options.shard_gb * 2**30)
    export_model(run.model, run_dir, files, dtype=dtype, shard_bytes=shard_bytes)
