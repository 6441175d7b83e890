"""The part `runtime` of the schema: where a run runs and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vrx.config.bounds import MANY, number


@dataclass
class RuntimeConfig:
    """Devices, processes and folders of a run; nothing here changes what is trained."""

    output_root: str = "outputs"
    results: list[str] = field(default_factory=list)  # folders of finished runs without weights, which are only read
    num_gpus: int | None = number(None, 0, 4096)  # one process each; null: all GPUs of this machine
    # GPUs of one run of a sweep, the others go to other runs; null: all
    gpus_per_run: int | None = number(None, 1, 4096)
    cpu_processes: int = number(1, 1, 1024)  # where there is no GPU
    num_nodes: int | None = number(None, 1, 65536)  # machines of one run; null: from SLURM's job step, else 1
    node_rank: int | None = number(None, 0, 65535)  # rank of this machine; node 0 writes the record; null: from SLURM
    rendezvous: str | None = None  # host:port at which node 0 listens; null: from SLURM
    num_workers: int = number(2, 0, 256)  # loader processes of each rank
    checkpoint_every: int = number(500, 1, MANY)  # optimizer steps

    @property
    def output_path(self) -> Path:
        """The output root as an absolute path."""
        return Path(self.output_root).absolute()

    @property
    def results_paths(self) -> list[Path]:
        """The folders of finished runs without weights, as absolute paths."""
        return [Path(folder).absolute() for folder in self.results]
