"""The configurations of a run directory: that of the run, written once, and that of the command at work."""

from __future__ import annotations

from pathlib import Path

from vrx.config.frozen import freeze, load_frozen
from vrx.config.schema import RunConfig
from vrx.runs.files import write_atomic
from vrx.runs.run_dir import RunDir


def write_config(run_dir: Path, run: RunConfig) -> None:
    """Freeze what the workers of this command start from, and as `config.yaml` if the run has none yet.

    A later command may evaluate other benchmarks or run elsewhere; `config.yaml` says how the run was made.
    """
    directory, text = RunDir(run_dir), freeze(run)
    write_atomic(directory.command_config, text)
    if not directory.config.exists():
        write_atomic(directory.config, text)


def read_command_config(run_dir: Path) -> RunConfig:
    """The configuration of the command that works on a run: its last one."""
    directory = RunDir(run_dir)
    return load_frozen(directory.command_config if directory.command_config.exists() else directory.config)
