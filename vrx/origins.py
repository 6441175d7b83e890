"""The LVLM that a job works on: a finished run by its directory, or the fine-tune that the configuration describes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrx import instructions, records
from vrx.answers import SURGERY
from vrx.checks import thaw
from vrx.config import JobConfig, RunConfig, named
from vrx.distributed import log
from vrx.locks import is_held, only_one
from vrx.nodes import RunFailed
from vrx.report.runs import spans

TUNING = ("model", "selector", "layer_count", "data_fraction", "instructions", "recipe", "lora", "train", "engine")


@dataclass(frozen=True)
class Origin:
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


def origin_dir(run: RunConfig) -> Path | None:
    """Where the run that this one works on lies, whether it is finished or not; None for `model.lvlm`."""
    if run.job.run is not None:
        return Path(run.job.run).absolute()
    if run.model.lvlm is not None:
        return None
    tuning = _fine_tune(run)
    identity = records.identity(tuning, instructions.data_digest(tuning.instructions))
    return records.run_directory(tuning, identity, label=records.label(tuning))


def look(run: RunConfig) -> Origin | None:
    """The origin as it lies there; None where it is not finished. Starts nothing and makes nothing."""
    run_dir = origin_dir(run)
    if run_dir is None:
        return Origin(None, records.untouched(run), (), run)
    if not (run_dir / "record.json").is_file():
        return None
    if (run_dir / SURGERY).is_file():
        raise ValueError(f"job.run={run.job.run}: its layers were put back or cut out; valid is the run that was tuned")
    record = records.read_record(run_dir / "record.json")
    return Origin(run_dir, record["identity"], tuple(record["layers"]), thaw(run_dir / "config.yaml"))


def finished(run: RunConfig) -> Origin:
    """The origin, tuned first where it is not; another process that works on it is waited for."""
    found = look(run)
    if found is None:
        run_dir = origin_dir(run)
        if run.job.run is not None or run_dir is None:
            raise FileNotFoundError(
                f"job.run={run.job.run}: holds no record.json; valid is the directory of a finished run"
            )
        bring_about(_fine_tune(run), run_dir)
        found = look(run)
    assert found is not None
    return found


def bring_about(run: RunConfig, made: Path) -> None:
    """Do another job first, in this process, once no other process works on the directory it makes."""
    while True:
        while is_held(made):
            time.sleep(1)
        log(f"first: vrx job={run.job.name}, {made.name}")
        try:
            return named(run.job._target_)(run)
        except RunFailed:
            if not is_held(made):  # else somebody was quicker
                raise


def begun(run: RunConfig) -> Origin | None:
    """As `look`; None also where the world is still to be made, with the first run of it."""
    return None if run.world is not None and not Path(run.world.folder).is_dir() else look(run)


def altered(run: RunConfig, origin: Origin, done: str, layers: Iterable[int]) -> tuple[Path, dict[str, Any]]:
    """Directory and identity of a run that does something ("pruned", "reverted") to some layers of its origin."""
    layers = tuple(layers)
    identity = {**origin.identity, done: list(layers)}
    told = spans(layers).replace(" to ", "-").replace(", ", ".") or "none"
    return records.run_directory(run, identity, label=f"{origin.label}_{done}_{told}"), identity


def like(origin: Origin, run: RunConfig) -> RunConfig:
    """The configuration of a run on an origin: model and tuning are the origin's, whatever was typed; the rest is the
    command's."""
    tuning = {name: getattr(origin.config, name) for name in (*TUNING, "seed")}
    job = dataclasses.replace(run.job, run=str(origin.run_dir) if origin.run_dir else None)
    return dataclasses.replace(run, **tuning, job=job)


def _fine_tune(run: RunConfig) -> RunConfig:
    return dataclasses.replace(run, job=JobConfig("finetune", "vrx.jobs.finetune.finetune"))


@contextmanager
def some_of(folders: Iterable[Path]) -> Iterator[list[Path]]:
    """Hold the locks of those runs that nobody works on; waits until there is at least one."""
    folders, told = list(folders), False
    while True:
        with ExitStack() as stack:
            mine = []
            for folder in folders:
                try:
                    stack.enter_context(only_one(folder))
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
