"""The ranks of a run's workers, and how a worker reports to the driver that launched it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from vrx.config.errors import user_message
from vrx.launch.logging import is_main
from vrx.runs.run_dir import RunDir

PARENT = "VRX_PARENT_PID"  # in a child's environment: the id of the process that started it
READY = ".ready"  # in a run's directory: its workers have started
ERROR_LINE = ".error"  # in a run's directory: the line that its worker leaves for the driver to print
ERROR_LINE_BYTES = 4096
USER_ERROR, BUG = 2, 1  # exit statuses of a worker that has left such a line


def local_rank() -> int:
    """The rank of this process among those of its machine, from torchrun's environment; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """The number of processes of the run, from torchrun's environment; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait until all ranks have come here; returns at once in a run of one process."""
    if world_size() > 1:
        import torch.distributed

        torch.distributed.barrier()


def gather(value: Any) -> list[Any]:
    """A value of every rank, in their order; on all ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        import torch.distributed

        torch.distributed.all_gather_object(values, value)
    return values


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends.

    The parent may have ended before this call; then the process id in `PARENT` is not that of the present parent, and
    this process exits. Sets `PARENT` for the children of this process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
            os._exit(1)
    os.environ[PARENT] = str(os.getpid())


def end_process(status: int) -> NoReturn:
    """End this process and its children at once, without the interpreter's own end.

    Threads of gloo outlive their process group where other objects refer to it (those of DeepSpeed do). The end of the
    interpreter then sometimes aborts the process (SIGABRT), although its work was done. It also takes more than a
    second of CPU time, to free the objects of all imported libraries one by one.
    """
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def set_ready(run_dir: Path) -> None:
    """Tell `launch` that the workers have started and now write to the terminal."""
    if is_main():
        (run_dir / READY).touch()


def report_error(stage: str, run_dir: Path, error: Exception) -> int:
    """Leave the line that the driver prints, and the traceback of a bug in `worker.log`; returns the exit status.

    The line of the first rank that fails is printed: the others fail because that one is gone.
    """
    message, status, worker_log = _user_message(error, run_dir), USER_ERROR, RunDir(run_dir).worker_log
    if message is None:
        _append(worker_log, f"rank {os.environ.get('RANK', '0')}, {stage}\n{traceback.format_exc()}\n")
        reason = str(error).strip().splitlines() or ["no message"]
        message = f"{stage} failed: {type(error).__name__}: {reason[0]}; the traceback is in {worker_log}"
        status = BUG
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
    """Append a text in one write, so that the texts of several ranks do not mix."""
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
