"""What a training is computed with, besides its configuration: machine, threads, processes. They can change bits."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from vrx.launch.devices import device, device_facts
from vrx.launch.logging import log
from vrx.launch.ranks import world_size
from vrx.runs.durable import MACHINE

Execution = dict[str, Any]  # `step` it begins with, `machine`, `processor`, `device`, `threads`, `processes`


def continued(executions: list[Execution], *, step: int) -> list[Execution]:
    """The executions of a run with the present one, which begins at `step`.

    A training on CPUs keeps the number of threads that it began with, where the machine has them, since the order of
    sums depends on it. Whatever else differs from the execution before is logged.
    """
    if not executions:
        return [{"step": step, **_present()}]
    before = executions[-1]
    _keep_threads(before)
    present = _present()
    changes = [f"{key} {before.get(key)} -> {value}" for key, value in present.items() if before.get(key) != value]
    if not changes:
        return executions
    log(f"resuming with other {'; '.join(changes)}: the last bits of the results may differ")
    return [*executions, {"step": step, **present}]


def _keep_threads(before: Execution) -> None:
    threads = before.get("threads")
    if device().type != "cpu" or before.get("processes") != world_size() or not isinstance(threads, int):
        return
    if threads != torch.get_num_threads() and 0 < threads <= (os.cpu_count() or 1):
        log(f"resuming with {threads} threads, as before, not the {torch.get_num_threads()} of this command")
        torch.set_num_threads(threads)


def _present() -> Execution:
    return {
        "machine": MACHINE,
        "processor": _processor(),
        "device": str(device_facts()["device_name"]),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
    }


def _processor() -> str:
    """The processor's name, on Linux; elsewhere its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
