"""Shared fixtures: composed runs of the embedded LVLM, a small world on disk, the real command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from whole_runs import ENVIRONMENT, PLAIN, SMALL, SMOKE, ZERO, command

from vrx.checks import to_run
from vrx.config import RunConfig
from vrx.paths import CONF

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch is not imported yet; test processes share the cores


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root in which the small world is made already."""
    root = tmp_path_factory.mktemp("world")
    run = composed([*SMALL, f"runtime.output_root={root}"])
    from vrx import evaluation

    evaluation.make_world(run)
    return root


LONG = ("test_ranks", "test_sweeps", "test_slurm", "test_runs", "test_instructions", "test_prune", "test_disk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that no process waits at the end for another's: a file is one's alone."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def composed(overrides: list[str]) -> RunConfig:
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_run(compose("config", overrides=overrides))


@pytest.fixture
def make_run(world: Path) -> Callable[..., RunConfig]:
    """Compose a run of the small world: `make_run("train.lr=1e-3")`."""
    return lambda *overrides: composed([*SMALL, f"runtime.output_root={world}", *overrides])


@pytest.fixture(scope="session")
def tuned(world: Path) -> Path:
    """The directory of a finished fine-tune of eight layers, whose adapter is random: every tuned layer has moved."""
    import torch

    from vrx import evaluation, instructions, lora, models, records
    from vrx.config import freeze

    run = composed([*SMALL, f"runtime.output_root={world}", "benchmark=[tiny_gqa]"])
    identity = records.identity(run, instructions.data_digest(run.instructions))
    folder = records.run_directory(run, identity, label=records.label(run))
    layers = identity["layers"]
    lvlm = lora.apply_lora(models.load(run.model), layers, run.lora)
    torch.manual_seed(0)
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in lora.trainable_parameters(lvlm).items()}
    lora.save_adapter(lvlm, state, folder / "adapter")
    records.write_atomic(folder / "config.yaml", freeze(run))
    evaluation.write_record(folder, identity, layers, {"seconds": 1.0}, {})
    return folder


def finished(root: Path, *overrides: str) -> Path:
    told = subprocess.run(
        command(*overrides), cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert told.returncode == 0, told.stderr
    return root


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of the options PLAIN came to its end undisturbed: what others are compared with."""
    return finished(tmp_path_factory.mktemp("undisturbed"), *PLAIN)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run under ZeRO-3 in two processes."""
    return finished(tmp_path_factory.mktemp("two_ranks"), *ZERO, "runtime.cpu_processes=2")


@pytest.fixture(scope="session")
def calm_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep SMOKE came to its end undisturbed."""
    return finished(tmp_path_factory.mktemp("calm_sweep"), *SMOKE)


@pytest.fixture
def vrx(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the real command in an empty folder."""

    def run(*overrides: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command(*overrides), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    return run


@pytest.fixture
def run_schema() -> None:
    """Hydra knows the schema of a run, as the command tells it."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
