"""The GPUs that a run may use, from a driver library that the tests stand in for."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from vrx.launch import gpus
from vrx.launch.gpus import Gpu

MEMORY = {"0": 80e9, "1": 80e9, "GPU-1b": 80e9}


@pytest.fixture(autouse=True)
def forget_the_real_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for function in (gpus.gpu_models, gpus._num_installed):
        function.cache_clear()
    yield
    for function in (gpus.gpu_models, gpus._num_installed):
        function.cache_clear()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch):
    """A driver with two GPUs, whose handles are their names."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", str)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", str)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: f"GPU of {handle}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=MEMORY[handle]))


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert gpus.count_gpus() == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # left over from another machine
    assert gpus.count_gpus() == 0
    assert gpus.gpu_models() == []


def test_all_installed_gpus_may_be_used(driver):
    assert gpus.gpu_numbers() == ["0", "1"]
    assert gpus.gpu_models() == [Gpu("GPU of 0", 80.0), Gpu("GPU of 1", 80.0)]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1", ["1"]), ("GPU-1b, 0", ["GPU-1b", "0"]), ("", []), ("-1", []), ("0,-1", ["0"]), ("1,7,0", ["1"])],
)
def test_the_environment_chooses_among_them(driver, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.gpu_numbers() == names
    assert [gpu.name for gpu in gpus.gpu_models()] == [f"GPU of {name}" for name in names]
