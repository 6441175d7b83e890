"""A process and its peers: its rank, the GPUs it may use, what a worker tells the driver that launched it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from vrx.config.errors import user_message
from vrx.launch.logging import is_main

PARENT = "VRX_PARENT_PID"  # in a child's environment: the process that started it
READY = ".ready"
ERROR_LINE = ".error"  # in a run's directory: the line that its worker leaves for the driver to print
ERROR_LINE_BYTES = 4096
WORKER_LOG = "worker.log"


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
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends.

    A parent that has ended already, before it could be asked, is noticed by its number in `PARENT`. What this process
    starts finds its own number there.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
            os._exit(1)
    os.environ[PARENT] = str(os.getpid())


def set_ready(run_dir: Path) -> None:
    """Tell `launch` that the workers have begun, and that the terminal is theirs."""
    if is_main():
        (run_dir / READY).touch()


def report_error(stage: str, run_dir: Path, error: Exception) -> int:
    """Leave the line that the driver prints, and of a bug the traceback in `worker.log`; returns the exit status.

    The first rank that fails is the one whose line is printed: the others fail because it has gone.
    """
    message, status = _user_message(error, run_dir), 2
    if message is None:
        _append(run_dir / WORKER_LOG, f"rank {os.environ.get('RANK', '0')}, {stage}\n{traceback.format_exc()}\n")
        reason = str(error).strip().splitlines() or ["no message"]
        message = f"{stage} failed: {type(error).__name__}: {reason[0]}; the traceback is in {run_dir / WORKER_LOG}"
        status = 1
    with (run_dir / ERROR_LINE).open("r+b") as file:
        if not file.read().strip():
            file.seek(0)
            file.write(message.encode()[:ERROR_LINE_BYTES].ljust(ERROR_LINE_BYTES))
    return status


def _user_message(error: Exception, run_dir: Path) -> str | None:
    message = user_message(error, run_dir)
    if message and "in DataLoader worker process" in message:  # torch puts the traceback into the message
        return message.strip().splitlines()[-1].partition(": ")[2]
    return message


def _append(path: Path, text: str) -> None:
    """Append a text in one write, so that what several ranks write does not mix."""
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
