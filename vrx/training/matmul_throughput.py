"""The most that a device keeps up: operations a second of a large matrix product, measured."""

from __future__ import annotations

import functools
import statistics
import time

import torch

from vrx.launch.devices import device

SIDE = {"cuda": 8192, "cpu": 1024}
SECONDS = 0.3


@functools.cache
def measured_matmul_flops(dtype: torch.dtype) -> float:
    """Of a product of square matrices in this precision, the median of many; takes a fraction of a second."""
    where = device()
    side = SIDE[where.type]
    left, right = (torch.randn(side, side, dtype=dtype, device=where) for _ in range(2))
    times: list[float] = []
    while len(times) < 4 or sum(times) < SECONDS:
        began = time.perf_counter()
        torch.mm(left, right)
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times[1:])
