"""Checkpoints of a run: trainable weights, the optimizer's state, the log so far, the position; no pickle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vrx.config.errors import UserError
from vrx.launch.logging import is_main, rank
from vrx.launch.ranks import barrier, gather, world_size
from vrx.runs.checkpoint_files import (
    LOG,
    WEIGHTS,
    Position,
    drop_old,
    folders,
    optimizer_file,
    read_position,
    write_position,
)
from vrx.runs.durable import partial_folder, put_in_place, sync
from vrx.runs.files import file_digest, write_atomic
from vrx.runs.run_dir import RunDir
from vrx.training.engine import Engine
from vrx.training.optimizer_state import is_by_ranks


def save(engine: Engine, run_dir: Path, step: int, executions: list[dict[str, Any]]) -> None:
    """Write what a resume needs, under its final name only when it is complete and on the disk.

    executions: the machines that trained so far, for the manifest. All ranks call this.
    """
    folder = RunDir(run_dir).checkpoints / f"step-{step}"
    partial = partial_folder(folder)
    if is_main():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    barrier()
    weights = engine.weights()
    written = [partial / optimizer_file(rank())]
    save_file(engine.optimizer_state(), written[0])
    if is_main():
        written += [partial / WEIGHTS, partial / LOG]
        save_file(weights, partial / WEIGHTS)
        shutil.copyfile(RunDir(run_dir).train_log, partial / LOG)
    for path in written:
        sync(path)
    digests = gather({path.name: file_digest(path) for path in written})
    if is_main():
        files = {name: value for of_rank in digests for name, value in of_rank.items()}
        write_position(partial, Position(step, world_size(), files, executions))
        put_in_place(partial, folder)
        drop_old(run_dir)
    barrier()


class Tensors(Mapping[str, torch.Tensor]):
    """The tensors of several files by name, each read from the disk on access; `UserError` for a damaged file."""

    def __init__(self, paths: list[Path]) -> None:
        self._file: dict[str, Path] = {}
        for path in paths:
            try:
                with safe_open(path, "pt") as file:
                    self._file |= dict.fromkeys(file.keys(), path)
            except Exception as error:
                raise _damaged(path, error) from None

    def __getitem__(self, name: str) -> torch.Tensor:
        with safe_open(self._file[name], "pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


class Checkpoint:
    """A checkpoint to resume from; a damaged file is a `UserError` that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.position = folder, read_position(folder)
        self.step = self.position.step

    def weights(self) -> dict[str, torch.Tensor]:
        """Full trainable tensors by name."""
        try:
            return load_file(self.folder / WEIGHTS)
        except Exception as error:
            raise _damaged(self.folder / WEIGHTS, error) from None

    def optimizer_state(self) -> Tensors:
        """Master weights and moments of all parameters, by name.

        A checkpoint of an earlier version, and one of an optimizer other than AdamW, holds a part for each rank, and
        is read by as many processes as wrote it.
        """
        ranks = range(self.position.processes)
        state = Tensors([self.folder / optimizer_file(number) for number in ranks])
        if not is_by_ranks(state):
            return state
        if self.position.processes != world_size():
            raise UserError(
                f"{self.folder}: written by {len(ranks)} processes, resumed by {world_size()}; "
                f"use {len(ranks)} processes, or delete {self.folder.parent} to train from the start"
            )
        return Tensors([self.folder / optimizer_file(rank())])

    def restore_log(self, run_dir: Path) -> bool:
        """Write the log up to this checkpoint again; False for a checkpoint of an earlier version, which has none."""
        if self.position.files is None:
            return False
        write_atomic(RunDir(run_dir).train_log, (self.folder / LOG).read_bytes())
        return True


def latest(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, None without one; the driver has deleted those that are damaged."""
    newest = next(iter(folders(run_dir)), None)
    return Checkpoint(newest) if newest else None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged ({error}); delete {path.parent.parent} to train from the start")
