"""The LVLM that a job works on: a finished run by its directory, or the fine-tune that the configuration describes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrx.config.errors import RunFailed, UserError
from vrx.config.frozen import load_frozen
from vrx.config.resolve import resolve_name
from vrx.config.schema import JobConfig, RunConfig
from vrx.data import instruction_dataset
from vrx.launch.logging import log
from vrx.runs.identity import base_identity
from vrx.runs.layer_selection import format_layers
from vrx.runs.locks import exclusive_lock, is_locked
from vrx.runs.lookup import run_directory, run_identity, run_label
from vrx.runs.record import read_record
from vrx.runs.run_dir import RunDir

TUNING = ("model", "selector", "layer_count", "data_fraction", "instructions", "recipe", "lora", "train", "engine")


@dataclass(frozen=True)
class SourceRun:
    """A finished run, or an LVLM as it came: its directory (None), what it is, the layers it tuned, how it was run."""

    run_dir: Path | None
    identity: dict[str, Any]
    layers: tuple[int, ...]
    config: RunConfig

    @property
    def name(self) -> str:
        return self.run_dir.name if self.run_dir else "untouched"

    @property
    def label(self) -> str:
        """The readable part of the name."""
        return self.run_dir.name.rpartition("_")[0] if self.run_dir else "untouched"


def source_dir(run: RunConfig) -> Path | None:
    """Where the run that this one works on lies, whether it is finished or not; None for `model.lvlm`."""
    if run.job.run is not None:
        return Path(run.job.run).absolute()
    if run.model.lvlm is not None:
        return None
    tuning = _fine_tune(run)
    identity = run_identity(tuning, instruction_dataset.data_digest(tuning.instructions))
    return run_directory(tuning, identity, label=run_label(tuning))


def find_source(run: RunConfig) -> SourceRun | None:
    """The origin as it lies there; None where it is not finished. Starts nothing and makes nothing."""
    run_dir = source_dir(run)
    if run_dir is None:
        return SourceRun(None, base_identity(run), (), run)
    if not RunDir(run_dir).record.is_file():
        return None
    if RunDir(run_dir).surgery.is_file():
        raise UserError(f"job.run={run.job.run}: its layers were put back or cut out; valid is the run that was tuned")
    record = read_record(RunDir(run_dir).record)
    return SourceRun(run_dir, record.identity, tuple(record.layers), load_frozen(RunDir(run_dir).config))


def finished_source(run: RunConfig) -> SourceRun:
    """The origin, tuned first where it is not; another process that works on it is waited for."""
    found = find_source(run)
    if found is None:
        run_dir = source_dir(run)
        if run.job.run is not None or run_dir is None:
            raise UserError(f"job.run={run.job.run}: holds no record.json; valid is the directory of a finished run")
        run_job_first(_fine_tune(run), run_dir)
        found = find_source(run)
    assert found is not None
    return found


def run_job_first(run: RunConfig, made: Path) -> None:
    """Do another job first, in this process, once no other process works on the directory it makes."""
    while True:
        while is_locked(made):
            time.sleep(1)
        log(f"first: vrx job={run.job.name}, {made.name}")
        try:
            return resolve_name("job", run.job.name, key="job")(run)
        except RunFailed:
            if not is_locked(made):  # else somebody was quicker
                raise


def find_source_if_data_exist(run: RunConfig) -> SourceRun | None:
    """As `look`; None also where the world is still to be made, with the first run of it."""
    return None if run.world is not None and not Path(run.world.folder).is_dir() else find_source(run)


def altered_run(run: RunConfig, origin: SourceRun, done: str, layers: Iterable[int]) -> tuple[Path, dict[str, Any]]:
    """Directory and identity of a run that does something ("pruned", "reverted") to some layers of its origin."""
    layers = tuple(layers)
    identity = {**origin.identity, done: list(layers)}
    told = format_layers(layers).replace(" to ", "-").replace(", ", ".") or "none"
    return run_directory(run, identity, label=f"{origin.label}_{done}_{told}"), identity


def with_source_settings(origin: SourceRun, run: RunConfig) -> RunConfig:
    """The configuration of a run on an origin: model and tuning are the origin's, whatever was typed; the rest is the
    command's."""
    tuning = {name: getattr(origin.config, name) for name in (*TUNING, "seed")}
    job = dataclasses.replace(run.job, run=str(origin.run_dir) if origin.run_dir else None)
    return dataclasses.replace(run, **tuning, job=job)


def _fine_tune(run: RunConfig) -> RunConfig:
    return dataclasses.replace(run, job=JobConfig("finetune"))


@contextmanager
def lock_available(folders: Iterable[Path]) -> Iterator[list[Path]]:
    """Hold the locks of those runs that nobody works on; waits until there is at least one."""
    folders, told = list(folders), False
    while True:
        with ExitStack() as stack:
            mine = []
            for folder in folders:
                try:
                    stack.enter_context(exclusive_lock(folder))
                    mine.append(folder)
                except RunFailed:
                    continue
            if mine:
                yield mine
                return
        if not told:
            log(f"waiting for {', '.join(folder.name for folder in folders)}, on which another vrx works")
            told = True
        time.sleep(1)
