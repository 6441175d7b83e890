"""The GPUs that this process may use, as the driver library (NVML) lists them; needs no torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Product name and memory (GB) of a GPU."""

    name: str
    memory_gb: float


def gpu_numbers() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them: by number or by UUID."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible is not None else map(str, range(_num_installed()))
    return [name.strip() for name in names if name.strip() not in ("", "-1")]


def count_gpus() -> int:
    """The number of GPUs this process may use."""
    return len(gpu_numbers())


@functools.cache
def gpu_models() -> list[Gpu]:
    """Name and memory of every GPU that a run may use; empty without a working driver."""
    import pynvml

    try:
        with _nvml():
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdigit()
                else pynvml.nvmlDeviceGetHandleByUUID(name)
                for name in gpu_numbers()
            ]
            return [
                Gpu(pynvml.nvmlDeviceGetName(handle), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) / 1e9)
                for handle in handles
            ]
    except pynvml.NVMLError:
        return []


@functools.cache
def _num_installed() -> int:
    """GPUs of this machine; 0 without the NVIDIA driver."""
    import pynvml

    try:
        with _nvml():
            return pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return 0


@contextmanager
def _nvml() -> Iterator[None]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()
