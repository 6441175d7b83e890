"""The files of a checkpoint and their manifest, `position.json`: what a resume needs, under digests.

A checkpoint is a folder `checkpoint/step-<step>` of a run. The manifest is written last and has a digest of every file
and of itself, so that a flipped bit, a missing file or a changed number is noticed. The two newest checkpoints are
kept; where the newest is damaged, the run goes on from the one before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.files import digest, file_digest, read_json, write_json
from vrx.runs.run_dir import RunDir
from vrx.runs.typed_json import InvalidField, from_json, to_json

POSITION = "position.json"
LOG = "train.jsonl"  # the rows of the run's log up to the checkpoint
WEIGHTS = "weights.safetensors"
KEPT = 2  # checkpoints


@dataclass
class Position:
    """Where a training stands and what it was computed with; the content of `position.json`.

    files: sha256 by name; None in a checkpoint of an earlier version, which had no digests. executions: the machines
    that trained, in order, see `vrx.training.execution`.
    """

    step: int
    processes: int
    files: dict[str, str] | None = None
    executions: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


def optimizer_file(rank: int) -> str:
    """The file that a rank writes: its share of the optimizer's state."""
    return f"optimizer-{rank}.safetensors"


def write_position(folder: Path, position: Position) -> None:
    """Write the manifest with its own digest."""
    content = to_json(position)
    write_json(folder / POSITION, {**content, "sha256": digest(content)})


def read_position(folder: Path) -> Position:
    """Read the manifest; `UserError` where it is damaged or does not belong to this folder."""
    path = folder / POSITION
    try:
        content = read_json(path)
        expected = content.pop("sha256", None) if isinstance(content, dict) else None
        position = from_json(Position, content)
    except InvalidField as error:
        raise UserError(f"{path}: damaged ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: damaged ({error.strerror})") from None
    if expected != (None if position.files is None else digest(content)):
        raise UserError(f"{path}: damaged (its digest is another)")
    if folder.name != f"step-{position.step}" or position.step < 1 or position.processes < 1:
        raise UserError(f"{path}: damaged (step {position.step} of {position.processes} processes)")
    return position


def folders(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    named = RunDir(run_dir).checkpoints.glob("step-*")
    steps = [path for path in named if path.name.removeprefix("step-").isdecimal()]
    return sorted(steps, key=_step, reverse=True)


def newest_step(run_dir: Path) -> int | None:
    """The step of the newest checkpoint; None where there is none."""
    return next((_step(folder) for folder in folders(run_dir)), None)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def verify(folder: Path) -> None:
    """`UserError` names the first file of a checkpoint that is damaged."""
    for name, expected in (read_position(folder).files or {}).items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: damaged (it is gone)")
        if file_digest(path) != expected:
            raise UserError(f"{path}: damaged (its digest is another)")


def drop_damaged(run_dir: Path, log: Callable[[str], None]) -> None:
    """Delete checkpoints that are damaged and newer than a sound one, and log each.

    `UserError`, and nothing is deleted, where there are checkpoints and none is sound.
    """
    damaged: dict[Path, str] = {}
    for folder in folders(run_dir):
        try:
            verify(folder)
        except UserError as error:
            damaged[folder] = str(error)
            continue
        for other, message in damaged.items():
            log(f"{message}; going on from {folder.name}")
            shutil.rmtree(other)
        return
    if damaged:
        message = next(iter(damaged.values()))
        raise UserError(f"{message}; delete {RunDir(run_dir).checkpoints} to train from the start")


def drop_old(run_dir: Path) -> None:
    """Delete all but the newest checkpoints."""
    for folder in folders(run_dir)[KEPT:]:
        shutil.rmtree(folder)
