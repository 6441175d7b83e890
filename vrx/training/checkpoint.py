"""Checkpoints of a run: trainable weights, every rank's optimizer state, the position; no pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from vrx.config.errors import UserError
from vrx.launch.logging import is_main, rank
from vrx.launch.ranks import world_size
from vrx.runs.files import read_json, read_json_lines, write_atomic, write_json
from vrx.runs.run_dir import RunDir
from vrx.training.engine import Engine


def save(engine: Engine, run_dir: Path, step: int) -> None:
    """Keep what a resume needs; it appears whole or not at all, and replaces the one before."""
    checkpoints = RunDir(run_dir).checkpoints
    folder, partial = checkpoints / f"step-{step}", checkpoints / f".step-{step}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    weights = engine.weights()
    save_file(engine.optimizer_state(), partial / f"optimizer-{rank()}.safetensors")
    if is_main():
        save_file(weights, partial / "weights.safetensors")
        write_json(partial / "position.json", {"step": step, "processes": world_size()})
    if world_size() > 1:
        dist.barrier()
    if is_main():
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        for old in checkpoints.iterdir():
            if old != folder:
                shutil.rmtree(old)
    if world_size() > 1:
        dist.barrier()


class Checkpoint:
    """A checkpoint to go on from; a damaged file is refused by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        position = read_json(folder / "position.json")
        self.step: int = position["step"]
        if position["processes"] != world_size():
            raise UserError(
                f"{folder}: written by {position['processes']} processes, now there are {world_size()}; "
                f"run with as many, or delete {folder.parent} to train from the start"
            )

    def _read(self, name: str) -> dict[str, torch.Tensor]:
        try:
            return load_file(self.folder / name)
        except Exception as error:
            raise UserError(
                f"{self.folder / name}: damaged ({error}); delete {self.folder.parent} to train from the start"
            ) from None

    def weights(self) -> dict[str, torch.Tensor]:
        return self._read("weights.safetensors")

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        return self._read(f"optimizer-{rank()}.safetensors")


def latest(run_dir: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run, where there is one."""
    folders = list(RunDir(run_dir).checkpoints.glob("step-*"))
    return Checkpoint(max(folders, key=lambda folder: int(folder.name[5:]))) if folders else None


def rewind_log(run_dir: Path, step: int) -> None:
    """Drop the log's rows from `step` on, and a last row that was cut: they will be written again."""
    path = RunDir(run_dir).train_log
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in read_json_lines(path) if row["step"] < step))
