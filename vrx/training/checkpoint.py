"""Checkpoints of a run: trainable weights, every rank's optimizer state, the position; no pickle."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vrx.config.errors import UserError
from vrx.launch.logging import is_main, rank
from vrx.launch.ranks import barrier, world_size
from vrx.runs.files import read_json, write_json
from vrx.runs.run_dir import RunDir
from vrx.training.engine import Engine


def save(engine: Engine, run_dir: Path, step: int) -> None:
    """Write what a resume needs, under its final name only when complete; it replaces the checkpoint before."""
    checkpoints = RunDir(run_dir).checkpoints
    folder, partial = checkpoints / f"step-{step}", checkpoints / f".step-{step}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    weights = engine.weights()
    save_file(engine.optimizer_state(), partial / f"optimizer-{rank()}.safetensors")
    if is_main():
        save_file(weights, partial / "weights.safetensors")
        write_json(partial / "position.json", {"step": step, "processes": world_size()})
    barrier()
    if is_main():
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        for old in checkpoints.iterdir():
            if old != folder:
                shutil.rmtree(old)
    barrier()


class Checkpoint:
    """A checkpoint to resume from; a damaged file is a `UserError` that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        position = read_json(folder / "position.json")
        self.step: int = position["step"]
        if position["processes"] != world_size():
            raise UserError(
                f"{folder}: written by {position['processes']} processes, resumed by {world_size()}; "
                f"use {position['processes']} processes, or delete {folder.parent} to train from the start"
            )

    def _read(self, name: str) -> dict[str, torch.Tensor]:
        try:
            return load_file(self.folder / name)
        except Exception as error:
            raise UserError(
                f"{self.folder / name}: damaged ({error}); delete {self.folder.parent} to train from the start"
            ) from None

    def weights(self) -> dict[str, torch.Tensor]:
        """Full trainable tensors by name."""
        return self._read("weights.safetensors")

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """This rank's part of master weights and moments."""
        return self._read(f"optimizer-{rank()}.safetensors")


def latest(run_dir: Path) -> Checkpoint | None:
    """The newest complete checkpoint of a run, None without one."""
    folders = list(RunDir(run_dir).checkpoints.glob("step-*"))
    return Checkpoint(max(folders, key=lambda folder: int(folder.name[5:]))) if folders else None
