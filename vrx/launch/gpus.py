"""The GPUs that this process may use, as the driver library (NVML) lists them; needs no torch."""

from __future__ import annotations

import functools
import itertools
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
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them: by number or by UUID.

    Names may be left over from another machine: without a GPU there is none, and as for CUDA the list ends at the first
    number that no GPU has.
    """
    installed = list(map(str, range(_num_installed())))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not installed:
        return installed
    names = [name.strip() for name in visible.split(",")]
    is_gpu = (name in installed or not name.lstrip("-").isdigit() for name in names)
    return [name for name in itertools.compress(names, itertools.takewhile(bool, is_gpu)) if name]


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
