"""`surgery.json`: which layers of a run's weights were reverted or pruned."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vrx.runs.files import read_json, write_json
from vrx.runs.results import require_weights
from vrx.runs.run_dir import RunDir


@dataclasses.dataclass(frozen=True)
class LayerSurgery:
    """What was done to an LVLM: whose adapter it has, and the layers put back to the backbone or cut out."""

    source: Path
    reverted: tuple[int, ...] = ()
    pruned: tuple[int, ...] = ()


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
    manifest = read_json(path)
    return LayerSurgery(
        (run_dir / manifest["source"]).resolve(), tuple(manifest["reverted"]), tuple(manifest["pruned"])
    )
