"""The device of a worker, its precision and memory, and its process group."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from vrx.config.schema import TrainConfig
from vrx.launch.ranks import world_size

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """The GPU of this process's local rank, or the CPU."""
    if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def dtype(train: TrainConfig) -> torch.dtype:
    """The precision of inference: that of training on a GPU, float32 on the CPU."""
    return DTYPES[train.dtype] if device().type == "cuda" else torch.float32


def init_process_group() -> None:
    """Join the process group of all ranks, unless there is one rank only or the group exists."""
    if world_size() > 1 and not dist.is_initialized():
        backend = "nccl" if device().type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(hours=6))


def bytes_of_a_process() -> int:
    """Bytes of memory available to one process: its GPU's, or its share of the machine's."""
    if device().type == "cuda":
        return torch.cuda.get_device_properties(device()).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def peak_memory_gb() -> float:
    """Peak memory so far in GiB: allocated on the GPU, or resident on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_resident_bytes() / 2**30


def peak_resident_bytes() -> int:
    """The most memory that was resident since this process's program started, in bytes.

    On Linux `ru_maxrss` is not used: it counts what the parent process held when it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_facts() -> dict[str, Any]:
    """The devices as provenance records them: name, number of processes, whether TF32 is allowed."""
    on_gpu = device().type == "cuda"
    name = torch.cuda.get_device_name(device()) if on_gpu else platform.processor() or "CPU"
    return {
        "device_name": name,
        "device_count": world_size(),
        "tf32": on_gpu and torch.backends.cuda.matmul.allow_tf32,
    }
