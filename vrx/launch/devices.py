"""The device of a worker, the precision it computes in, and its place among the other ranks."""

from __future__ import annotations

import datetime
import os
import platform
import resource
from typing import Any

import torch
import torch.distributed as dist

from vrx.config.schema import TrainConfig
from vrx.launch.ranks import world_size

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def dtype(train: TrainConfig) -> torch.dtype:
    """The precision a finished LVLM is run in: that of its training on a GPU, float32 elsewhere."""
    return DTYPES[train.dtype] if device().type == "cuda" else torch.float32


def init_process_group() -> None:
    """Meet the other ranks, where there are any and no engine has done it."""
    if world_size() > 1 and not dist.is_initialized():
        backend = "nccl" if device().type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(hours=6))


def bytes_of_a_process() -> int:
    """Memory that one process has: its GPU's, else its share of the machine's."""
    if device().type == "cuda":
        return torch.cuda.get_device_properties(device()).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def peak_memory_gb() -> float:
    """The most memory held so far, GiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def device_facts() -> dict[str, Any]:
    """What provenance records of the devices: their name, how many work together, whether TF32 is allowed."""
    on_gpu = device().type == "cuda"
    name = torch.cuda.get_device_name(device()) if on_gpu else platform.processor() or "CPU"
    return {
        "device_name": name,
        "device_count": world_size(),
        "tf32": on_gpu and torch.backends.cuda.matmul.allow_tf32,
    }
