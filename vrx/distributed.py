"""A process and its peers: its rank, the GPUs it may use, what a worker tells the driver that launched it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from vrx.paths import disk_refusal

READY = ".ready"
REFUSAL = ".refusal"  # in a run's directory: why its worker would not go on
ROOM = 4096  # bytes of it


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        import torch.distributed

        torch.distributed.barrier()


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


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG


def set_ready(run_dir: Path) -> None:
    """Tell `launch` that the workers have begun, and that the terminal is theirs."""
    if is_main():
        (run_dir / READY).touch()


def refuse(run_dir: Path, error: Exception) -> None:
    """Leave the reason why a worker ends where `launch` finds it."""
    told = disk_refusal(error, run_dir) or str(error)
    with (run_dir / REFUSAL).open("r+b") as file:
        file.write(told.encode()[:ROOM].ljust(ROOM))


def log(message: str) -> None:
    """One line on the terminal, from rank 0 alone; a progress line that stands there moves below it."""
    if is_main():
        tqdm.write(f"vrx: {message}", file=sys.stderr)
