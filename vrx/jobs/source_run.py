"""The LVLM that a job works on: a finished run by its directory, or the fine-tune that the configuration describes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vrx.config.errors import RunFailed, UserError
from vrx.config.frozen import load_frozen, to_run
from vrx.config.resolve import resolve_name
from vrx.config.schema import JobConfig, ModelConfig, RunConfig
from vrx.config.shuffled_images import with_shuffled_images
from vrx.data import run_data
from vrx.launch.logging import log
from vrx.runs.identity import Identity, base_identity
from vrx.runs.importance_files import UNTOUCHED
from vrx.runs.layer_selection import format_layers, select_layers
from vrx.runs.locks import exclusive_lock, is_locked
from vrx.runs.lookup import locate_finetune, run_directory
from vrx.runs.moved_weights import with_moved_weights
from vrx.runs.pretrained_projector import with_pretrained_projector
from vrx.runs.record import Record, read_record
from vrx.runs.run_dir import RunDir
from vrx.runs.status import require_record

TUNING = ("model", "selector", "layer_count", "data_fraction", "instructions", "recipe", "lora", "train", "engine")


@dataclass(frozen=True)
class SourceRun:
    """A finished run, or a base model: its directory (None), its identity, the layers it tuned, its configuration."""

    run_dir: Path | None
    identity: Identity
    layers: tuple[int, ...]
    config: RunConfig

    @property
    def name(self) -> str:
        return self.run_dir.name if self.run_dir else UNTOUCHED

    @property
    def label(self) -> str:
        """The readable part of the name."""
        return self.run_dir.name.rpartition("_")[0] if self.run_dir else UNTOUCHED


def base_model(run: RunConfig) -> SourceRun:
    """The LVLM of a configuration before tuning."""
    return SourceRun(None, base_identity(run), (), run)


def read_finished_run(run_dir: Path, model: ModelConfig) -> tuple[Record, RunConfig]:
    """The record and the configuration of the run that `job.run` names; `UserError` where it is not finished.

    model: the command's, which says where the run's base weights lie now if they were moved.
    """
    require_record(run_dir)
    record = read_record(RunDir(run_dir).record)
    frozen = load_frozen(RunDir(run_dir).config)
    return record, with_moved_weights(frozen, record.identity, model, run_dir=run_dir)


def run_of_command(composed: Any, overrides: Sequence[str]) -> RunConfig:
    """The checked run of a command; `UserError` where it cannot work.

    A job on a finished run puts its questions in the form of that run's model. Where the command names neither data nor
    a model, the questions are those of the run.

    composed: the configuration. overrides: as typed.
    """
    frozen = _frozen_if_any(composed.job.run)
    run = with_pretrained_projector(to_run(composed, answered_by=frozen and frozen.model))
    typed = {override.lstrip("+~").partition("=")[0].partition(".")[0] for override in overrides}
    if frozen is None or not frozen.benchmark or typed & {"benchmark", "model", "world", "data_root"}:
        return run
    return with_shuffled_images(dataclasses.replace(run, benchmark=frozen.benchmark, world=frozen.world))


def _frozen_if_any(run_dir: str | None) -> RunConfig | None:
    """The configuration of the run that `job.run` names; None where there is none, which the job reports."""
    config = RunDir(Path(run_dir)).config if run_dir is not None else None
    return load_frozen(config) if config is not None and config.is_file() else None


def source_dir(run: RunConfig) -> Path | None:
    """The directory of the run that this one works on, whether it is finished or not; None for `model.lvlm`."""
    if run.job.run is not None:
        return Path(run.job.run).absolute()
    if run.model.lvlm is not None and run.model.is_assembled:
        return None
    finetune = _as_finetune(run)
    data_digest = run_data.digest(finetune)
    return locate_finetune(finetune, select_layers(finetune, data_digest), data_digest)[0]


def find_source(run: RunConfig) -> SourceRun | None:
    """The source run if it is finished, else None. Starts nothing and makes nothing."""
    run_dir = source_dir(run)
    if run_dir is None:
        return base_model(run)
    if not RunDir(run_dir).record.is_file():
        return None
    if RunDir(run_dir).surgery.is_file():
        raise UserError(f"job.run={run_dir}: its layers were reverted or pruned; valid is the run that was tuned")
    record, config = read_finished_run(run_dir, run.model)
    if record.is_pretraining:
        raise UserError(f"job.run={run_dir}: a pre-training of the projector; valid is a run that tuned layers")
    if record.is_base_model:
        advice = "; the model before tuning is scored by score.base_model=true" if run.job.name == "score" else ""
        raise UserError(f"job.run={run_dir}: a model before tuning; valid is a run that tuned layers{advice}")
    return SourceRun(run_dir, record.identity, tuple(record.layers), config)


def find_source_if_data_exist(run: RunConfig) -> SourceRun | None:
    """As `find_source`; None also where the world's data do not exist yet."""
    return None if run.world is not None and not Path(run.world.folder).is_dir() else find_source(run)


def finished_source(run: RunConfig) -> SourceRun:
    """The source run, tuned first if it is not finished; waits for another process that works on it."""
    source = find_source(run)
    if source is None:
        run_dir = source_dir(run)
        assert run_dir is not None, "a base model is always there"
        if run.job.run is not None:
            require_record(Path(run.job.run))
        else:
            run_job_first(_as_finetune(run), run_dir)
        source = find_source(run)
    assert source is not None
    return source


def run_job_first(run: RunConfig, result_dir: Path) -> None:
    """Do another job first, in this process, once no other process works on the directory of its result."""
    while True:
        while is_locked(result_dir):
            time.sleep(1)
        log(f"first: vrx {run.job.name}, {result_dir.name}")
        try:
            return resolve_name("job", run.job.name, key="job")(run)
        except RunFailed:
            if not is_locked(result_dir):  # else another process was quicker
                raise


def locate_altered_run(
    run: RunConfig, source: SourceRun, alteration: Literal["reverted", "pruned"], layers: Sequence[int]
) -> tuple[Path, Identity]:
    """Directory and identity of a source run with some layers reverted or pruned."""
    identity = {**source.identity, alteration: list(layers)}
    numbers = format_layers(layers).replace(" to ", "-").replace(", ", ".") or "none"
    return run_directory(run, identity, label=f"{source.label}_{alteration}_{numbers}"), identity


def with_source_settings(source: SourceRun, run: RunConfig) -> RunConfig:
    """The configuration of a job on a source run: model and tuning are the source's, the rest is the command's."""
    tuning = {name: getattr(source.config, name) for name in (*TUNING, "seed")}
    job = dataclasses.replace(run.job, run=str(source.run_dir) if source.run_dir else None)
    return dataclasses.replace(run, **tuning, job=job)


def _as_finetune(run: RunConfig) -> RunConfig:
    return dataclasses.replace(run, job=JobConfig("finetune"))


@contextmanager
def lock_available(folders: Iterable[Path]) -> Iterator[list[Path]]:
    """Hold the locks of those runs on which no other process works; waits until there is at least one."""
    folders, has_logged = list(folders), False
    while True:
        with ExitStack() as stack:
            locked = []
            for folder in folders:
                try:
                    stack.enter_context(exclusive_lock(folder))
                    locked.append(folder)
                except RunFailed:
                    continue
            if locked:
                yield locked
                return
        if not has_logged:
            log(f"waiting for {', '.join(folder.name for folder in folders)}, on which another vrx works")
            has_logged = True
        time.sleep(1)
