"""The part `runtime` of the schema: where a run runs and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class RuntimeConfig:
    """Devices, processes and folders of a run; nothing here changes what is trained."""

    output_root: str = "outputs"
    results: list[str] = field(default_factory=list)  # folders of finished runs without weights, which are only read
    num_gpus: int | None = None  # one process each; null: all GPUs of this machine
    gpus_per_run: int | None = None  # GPUs of one run of a sweep, the others go to other runs; null: all
    cpu_processes: int = 1  # where there is no GPU
    num_nodes: int | None = None  # machines of one run; null: from SLURM's job step, else 1
    node_rank: int | None = None  # rank of this machine; node 0 writes the record; null: from SLURM
    rendezvous: str | None = None  # host:port at which node 0 listens; null: from SLURM
    num_workers: int = 2  # loader processes of each rank
    checkpoint_every: int = 500  # optimizer steps

    @property
    def output_path(self) -> Path:
        """The output root as an absolute path."""
        return Path(self.output_root).absolute()

    @property
    def results_paths(self) -> list[Path]:
        """The folders of finished runs without weights, as absolute paths."""
        return [Path(folder).absolute() for folder in self.results]
