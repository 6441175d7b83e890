"""`surgery.json`: which layers of a run's weights were reverted or pruned."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vrx.config.errors import UserError
from vrx.runs.files import read_json, write_json
from vrx.runs.results import require_weights
from vrx.runs.run_dir import RunDir
from vrx.runs.typed_json import InvalidField, from_json


@dataclasses.dataclass(frozen=True)
class LayerSurgery:
    """What was done to an LVLM: whose adapter it has, and the layers put back to the backbone or cut out."""

    source: Path
    reverted: tuple[int, ...] = ()
    pruned: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """The content of the file."""

    source: str
    reverted: list[int]
    pruned: list[int]


def write_surgery(run_dir: Path, done: LayerSurgery) -> None:
    """Leave `surgery.json`, by which the run's weights are known; the source is told relative to the directory."""
    require_weights(done.source)
    source = Path(os.path.relpath(done.source, run_dir)).as_posix()
    write_json(RunDir(run_dir).surgery, {"source": source, "reverted": done.reverted, "pruned": done.pruned})


def read_surgery(run_dir: Path) -> LayerSurgery:
    """What was done to the weights of a run's directory beside its tuning; nothing where it does not say."""
    path = RunDir(run_dir).surgery
    if not path.is_file():
        return LayerSurgery(run_dir)
    try:
        manifest = from_json(_Manifest, read_json(path))
    except InvalidField as error:
        raise UserError(f"{path}: does not say what was done to the layers: {error}") from None
    return LayerSurgery((run_dir / manifest.source).resolve(), tuple(manifest.reverted), tuple(manifest.pruned))
