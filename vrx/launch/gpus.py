"""The GPUs that this process may use; needs no torch."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess


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
