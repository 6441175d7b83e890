"""Shared fixtures: composed runs of the embedded LVLM, a small world on disk, the real command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hydra.core.config_store import ConfigStore
from support.composing import composed, finished
from support.forked import end_shared, run_forked
from support.longest import longest_first
from support.whole_runs import ENVIRONMENT, PLAIN, SMALL, SMOKE, ZERO, command

from vrx.config.schema import RunConfig

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch is not imported yet; test processes share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the real hub


# The same examples in every run: a failure can be replayed.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All cores for a whole suite, this process for single files and tests."""
    return 0 if any(".py" in argument for argument in config.args) else os.cpu_count() or 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items)


def pytest_sessionfinish() -> None:
    end_shared()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root in which the small world is made already."""
    root = tmp_path_factory.mktemp("world")
    run = composed([*SMALL, f"runtime.output_root={root}"])
    from vrx.evaluation import evaluate_run

    evaluate_run.make_world(run)
    assert run.world is not None
    (root / "data" / "tiny").symlink_to(run.world.folder)  # a name without the digest of its numbers
    return root


@pytest.fixture
def make_run(world: Path) -> Callable[..., RunConfig]:
    """Compose a run of the small world: `make_run("train.lr=1e-3")`."""
    return lambda *overrides: composed([*SMALL, f"runtime.output_root={world}", *overrides])


@pytest.fixture(scope="session")
def tuned(world: Path) -> Path:
    """The directory of a finished fine-tune of eight layers, whose adapter is random: every tuned layer has moved."""
    import torch

    from vrx.config.frozen import freeze
    from vrx.data.instructions import instruction_dataset
    from vrx.evaluation import evaluate_run
    from vrx.models import loading, lora, lora_checkpoint
    from vrx.runs import files, lookup
    from vrx.runs.layer_selection import select_layers
    from vrx.runs.train_summary import TrainSummary

    run = composed([*SMALL, f"runtime.output_root={world}", "benchmark=[tiny_gqa]"])
    layers = list(select_layers(run))
    folder, identity = lookup.locate_finetune(run, layers, instruction_dataset.data_digest(run.instructions))
    lvlm = lora.apply_lora(loading.load(run.model), layers, run.lora)
    torch.manual_seed(0)
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in lora.trainable_parameters(lvlm).items()}
    lora_checkpoint.save_adapter(lvlm, state, folder / "adapter")
    files.write_atomic(folder / "config.yaml", freeze(run))
    evaluate_run.write_record(folder, run.model, identity, layers, {}, train=TrainSummary(seconds=1.0))
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of the options PLAIN came to its end undisturbed: what others are compared with.

    Its processes are not forked: runs in forked ones have to give the same bits.
    """
    root = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(*PLAIN), cwd=root, env=ENVIRONMENT, capture_output=True, check=True, timeout=900)
    return root


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run under ZeRO-3 in two processes."""
    return finished(tmp_path_factory.mktemp("two_ranks"), *ZERO, "runtime.cpu_processes=2")


@pytest.fixture(scope="session")
def calm_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep SMOKE came to its end undisturbed."""
    return finished(tmp_path_factory.mktemp("calm_sweep"), *SMOKE)


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A tiny checkpoint of a family by its name, made once."""
    from support.families import TinyFamily

    return cache(lambda name: TinyFamily(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def vrx(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the command in an empty folder, in processes that share their imports with those of other tests."""

    def run(*overrides: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess:
        return run_forked(command(*overrides), cwd, {**os.environ, "OMP_NUM_THREADS": "1"})

    return run


@pytest.fixture
def run_schema() -> None:
    """Hydra knows the schema of a run, as the command tells it."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
