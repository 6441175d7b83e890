"""A process and its peers: its rank, the GPUs it may use, what a worker tells the driver that launched it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from vrx.config.errors import disk_error_message
from vrx.launch.logging import is_main

READY = ".ready"
REFUSAL = ".refusal"  # in a run's directory: why its worker would not go on
ROOM = 4096  # bytes of it


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        import torch.distributed

        torch.distributed.barrier()


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG


def set_ready(run_dir: Path) -> None:
    """Tell `launch` that the workers have begun, and that the terminal is theirs."""
    if is_main():
        (run_dir / READY).touch()


def report_refusal(run_dir: Path, error: Exception) -> None:
    """Leave the reason why a worker ends where `launch` finds it."""
    told = disk_error_message(error, run_dir) or str(error)
    with (run_dir / REFUSAL).open("r+b") as file:
        file.write(told.encode()[:ROOM].ljust(ROOM))
