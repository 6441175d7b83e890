"""Activation checkpointing where memory demands it, and not where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from vrx.launch.devices import device

NOTHING_KEPT = {"use_reentrant": False}
SHARE = 0.85  # of the memory that is free, for activations; the rest is for what a step needs in between
MODES = {"none": 0, "half": 2, "all": 1}  # which layers run anew in the backward pass: every so many


class _OverBudget(Exception):
    """More was kept than there is room for."""


def free_bytes() -> int:
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def checkpoint(lvlm: LlavaForConditionalGeneration, way: str) -> None:
    """Keep of `none`, `half` or `all` decoder layers the input alone, and run them anew in the backward pass."""
    if MODES[way]:
        lvlm.activation_checkpointing_enable(NOTHING_KEPT, every_n_layers=MODES[way])
    else:
        lvlm.activation_checkpointing_disable()


def least_checkpointing(lvlm: LlavaForConditionalGeneration, forward: Callable[[], Any], *, budget: float) -> str:
    """Set the least checkpointing, of `WAYS`, with which a forward pass keeps no more bytes than the budget. The last
    way is not tried, and left set: it is the best there is."""
    *tried, last = MODES
    for way in tried:
        checkpoint(lvlm, way)
        if kept_bytes(lvlm, forward, budget=budget) is not None:
            return way
    checkpoint(lvlm, last)
    return last


def kept_bytes(lvlm: torch.nn.Module, forward: Callable[[], Any], *, budget: float = float("inf")) -> float | None:
    """Bytes that autograd keeps of a forward pass, weights not counted; None where that is more than the budget."""
    seen = {parameter.untyped_storage().data_ptr() for parameter in lvlm.parameters()}
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept += storage.nbytes()
            if kept > budget:
                raise _OverBudget
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    except (_OverBudget, torch.OutOfMemoryError):
        return None
    return kept
