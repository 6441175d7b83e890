"""What `vrx finetune` and `vrx pretrain` do alike: start or resume their training, and tell how long it will take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vrx.config.schema import RunConfig
from vrx.data.images.digest import recorded_pictures, require_same_pictures
from vrx.launch.logging import log
from vrx.launch.workers import launch, num_processes
from vrx.runs import files
from vrx.runs.checkpoint_files import drop_damaged
from vrx.runs.expected_time import expected_device_hours
from vrx.runs.identity import Identity
from vrx.runs.run_config import write_config
from vrx.runs.run_dir import RunDir


def launch_training(
    stage: str, run: RunConfig, run_dir: Path, *, table: Path, digest: str, while_running: Callable[[], Any]
) -> None:
    """Write what the workers of a training start from, and run them; a sound checkpoint is resumed.

    table, digest: of the converted data. `UserError` where its pictures changed while it ran.
    """
    cache = run.runtime.output_path / "data"
    pictures = recorded_pictures(run, table, cache)
    files.write_json(RunDir(run_dir).data, {"table": str(table), "sha256": digest, **pictures})
    write_config(run_dir, run)
    drop_damaged(run_dir, log)
    launch(stage, run_dir, run.runtime, while_running=while_running)
    require_same_pictures(run, run_dir, cache)


def expected_hours(run: RunConfig, run_dir: Path, identity: Identity) -> float | None:
    """Hours of the training on the processes of this command, from runs like it; None without any."""
    device_hours = expected_device_hours(run_dir, identity, run.runtime.results_paths)
    return None if device_hours is None else device_hours / num_processes(run.runtime)
