"""The GPUs that this process may use; needs no torch."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass


@functools.cache
def _installed_gpus() -> int:
    """GPUs of this machine, asked of the driver tool: the calling process need not import torch."""
    if not (tool := shutil.which("nvidia-smi")):
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def gpu_numbers() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = visible.split(",") if visible is not None else map(str, range(_installed_gpus()))
    return [device.strip() for device in named if device.strip() not in ("", "-1")]


def count_gpus() -> int:
    return len(gpu_numbers())


@dataclass(frozen=True)
class Gpu:
    """A GPU by its product name."""

    name: str
    memory_gb: float


@functools.cache
def gpu_models() -> list[Gpu]:
    """Name and memory of every GPU that a run may use."""
    numbers = gpu_numbers()
    if not numbers or not (tool := shutil.which("nvidia-smi")):
        return []
    query = [tool, f"--id={','.join(numbers)}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [line.rpartition(",") for line in lines if "," in line]
    return [Gpu(name.strip(), float(memory) * 1048576 / 1e9) for name, _, memory in rows]
