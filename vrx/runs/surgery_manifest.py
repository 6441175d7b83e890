"""`surgery.json`: which layers of a run's weights were reverted or pruned."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vrx.runs.files import read_json, write_json

SURGERY_FILE = "surgery.json"
PRUNED_FOLDER = "pruned"  # of a run's directory: the checkpoint that pruning saved


@dataclasses.dataclass(frozen=True)
class LayerSurgery:
    """What was done to an LVLM: whose adapter it has, and the layers put back to the backbone or cut out."""

    source: Path
    reverted: tuple[int, ...] = ()
    pruned: tuple[int, ...] = ()


def write_surgery(run_dir: Path, done: LayerSurgery) -> None:
    """Leave `surgery.json`, by which the run's weights are known; the source is told relative to the directory."""
    source = Path(os.path.relpath(done.source, run_dir)).as_posix()
    write_json(run_dir / SURGERY_FILE, {"source": source, "reverted": done.reverted, "pruned": done.pruned})


def read_surgery(run_dir: Path) -> LayerSurgery:
    """What was done to the weights of a run's directory beside its tuning; nothing where it does not say."""
    if not (run_dir / SURGERY_FILE).is_file():
        return LayerSurgery(run_dir)
    told = read_json(run_dir / SURGERY_FILE)
    return LayerSurgery((run_dir / told["source"]).resolve(), tuple(told["reverted"]), tuple(told["pruned"]))
