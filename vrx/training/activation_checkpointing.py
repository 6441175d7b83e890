"""Activation checkpointing: named modes, and the choice of the lightest one that fits the memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum

import torch
from transformers import PreTrainedModel

from vrx.launch.devices import device

MEMORY_SHARE = 0.85  # of the free memory may hold activations; the rest is for temporary tensors of a step


class Mode(StrEnum):
    """Which decoder layers keep only their input in the forward pass and are recomputed in the backward pass.

    In the order of memory, the most first.
    """

    NONE = "none"
    HALF = "half"
    FULL = "full"


EVERY_N_LAYERS = {Mode.HALF: 2, Mode.FULL: 1}


class _OverBudgetError(Exception):
    """Autograd saved more bytes than the budget allows."""


def free_bytes() -> int:
    """Memory that is free on the device, bytes."""
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def set_mode(lvlm: PreTrainedModel, mode: Mode) -> None:
    """Switch the decoder layers to a checkpointing mode."""
    if mode is Mode.NONE:
        lvlm.activation_checkpointing_disable()
    else:
        lvlm.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=EVERY_N_LAYERS[mode])


def set_lightest_mode(lvlm: PreTrainedModel, forward: Callable[[], object], *, budget: float) -> Mode:
    """Enable the lightest mode in which a forward pass saves at most `budget` bytes; fall back to full.

    `forward` runs one forward pass. It is not run in the last mode, which is the only choice left.
    """
    *lighter_modes, heaviest = Mode
    for mode in lighter_modes:
        set_mode(lvlm, mode)
        if saved_bytes(lvlm, forward, budget=budget) is not None:
            return mode
    set_mode(lvlm, heaviest)
    return heaviest


def saved_bytes(lvlm: torch.nn.Module, forward: Callable[[], object], *, budget: float = float("inf")) -> float | None:
    """Bytes that autograd saves in a forward pass, without the weights; None if they exceed the budget."""
    seen = {parameter.untyped_storage().data_ptr() for parameter in lvlm.parameters()}
    saved = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            saved += storage.nbytes()
            if saved > budget:
                raise _OverBudgetError
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    except (_OverBudgetError, torch.OutOfMemoryError):
        return None
    return saved
