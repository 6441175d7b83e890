"""Measured peak matmul throughput of the device: the denominator of MFU."""

from __future__ import annotations

import functools
import statistics
import time

import torch

from vrx.launch.devices import device

SIDE = {"cuda": 8192, "cpu": 1024}
SECONDS = 0.3


@functools.cache
def peak_flops_per_second(dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product in this precision: the median of many, in a fraction of a second."""
    target = device()
    side = SIDE[target.type]
    left, right = (torch.randn(side, side, dtype=dtype, device=target) for _ in range(2))
    times: list[float] = []
    while len(times) < 4 or sum(times) < SECONDS:
        began = time.perf_counter()
        torch.mm(left, right)
        if target.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times[1:])
