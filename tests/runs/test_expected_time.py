"""The expected time of a training matches engine, devices and number of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vrx.runs.expected_time import expected_device_hours
from vrx.runs.record import ModelFacts, Record
from vrx.runs.train_summary import TrainSummary


def identity(layers: int, engine: str = "torch") -> dict[str, Any]:
    return {
        "model": {"num_layers": 32},
        "weights": {},
        "layers": list(range(layers)),
        "data": {"fraction": 1.0},
        "train": {"lr": 1.0},
        "engine": {"name": engine},
    }


def write(root: Path, name: str, layers: int, train: TrainSummary, engine: str = "torch") -> None:
    value = identity(layers, engine)
    Record(name, value, ModelFacts("m", 32), value["layers"], {}, train=train).write(root / name / "record.json")


def test_eight_gpus_and_one_cost_the_same_gpu_hours(tmp_path: Path):
    write(tmp_path, "one", 8, TrainSummary(seconds=3600.0, gpu_hours=1.0))
    write(tmp_path, "eight", 8, TrainSummary(seconds=450.0, gpu_hours=1.0))
    assert expected_device_hours(tmp_path / "new", identity(8)) == 1.0


def test_runs_with_as_many_layers_count_alone(tmp_path: Path):
    write(tmp_path, "few", 1, TrainSummary(seconds=100.0, gpu_hours=0.2))
    write(tmp_path, "all", 32, TrainSummary(seconds=2000.0, gpu_hours=1.0))
    assert expected_device_hours(tmp_path / "new", identity(32)) == 1.0
    assert expected_device_hours(tmp_path / "new", identity(1)) == 0.2


def test_other_numbers_of_layers_are_interpolated(tmp_path: Path):
    write(tmp_path, "few", 8, TrainSummary(seconds=1.0, gpu_hours=2.0))
    write(tmp_path, "all", 32, TrainSummary(seconds=1.0, gpu_hours=5.0))
    assert expected_device_hours(tmp_path / "new", identity(16)) == pytest.approx(3.0)


def test_another_engine_says_nothing(tmp_path: Path):
    write(tmp_path, "deepspeed", 8, TrainSummary(seconds=1.0, gpu_hours=2.0), engine="deepspeed")
    assert expected_device_hours(tmp_path / "new", identity(8)) is None
