"""Results without weights: copies of finished runs that are small enough to be committed, and are only read.

`vrx report report.copy_to=<folder>` writes them; `runtime.results` names the folders in which runs are looked up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.runs.files import read_json_object
from vrx.runs.run_dir import RunDir


def is_copy(run_dir: Path) -> bool:
    """Whether a directory is a copy without weights."""
    return RunDir(run_dir).copied.is_file()


def copied_weights(run_dir: Path) -> str | None:
    """The digest of the weights that gave the answers of a copy; None for a run that has its weights."""
    return _manifest(run_dir).get("weights") if is_copy(run_dir) else None


def require_weights(run_dir: Path, *, key: str | None = None) -> None:
    """Refuse a copy: `UserError` with the command that makes the run again; key: the option that names the run."""
    if is_copy(run_dir):
        named = f"{key}={run_dir}" if key else run_dir
        raise UserError(
            f"{named}: is a copy of results without weights, which is only read; make the run again, with the "
            f"settings of its config.yaml: {_manifest(run_dir).get('command', 'vrx')} runtime.results=[]"
        )


def has_answers(run_dir: Path, benchmarks: list[str]) -> bool:
    """Whether a copy has answers to all these benchmarks."""
    directory = RunDir(run_dir)
    paths = [directory.predictions(name) for name in benchmarks]
    return all(path.is_file() or compressed(path).is_file() for path in paths)


def compressed(path: Path) -> Path:
    """Where a copy has a file of answers."""
    return path.with_name(f"{path.name}.xz")


def _manifest(run_dir: Path) -> dict[str, Any]:
    return read_json_object(RunDir(run_dir).copied)
