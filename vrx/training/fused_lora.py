"""A frozen Linear and its adapter as one operation: the same sums as PEFT's, with nothing in between kept or copied.

PEFT adds the adapter's output to the Linear's with passes over the whole output for the scale and for the sum, and
keeps the dropped-out input in full precision for each module. Here the last product is added where the Linear has
written, and of dropout a mask of one byte an element is kept.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # of a random number that decides on one element


def fuse(model: nn.Module) -> int:
    """Let every Linear of the model that PEFT gave an adapter run as one operation; gives their number."""
    found = [module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]
    for module in found:
        module.forward = types.MethodType(_forward, module)
    return len(found)


def _forward(module: Any, x: Tensor) -> Tensor:
    (name,) = module.active_adapters
    dropout = getattr(module.lora_dropout[name], "p", 0.0) if module.training else 0.0
    keep = keep_mask(x, dropout) if dropout else None
    base = module.base_layer
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return AdaptedLinear.apply(x, base.weight, base.bias, a, b, module.scaling[name], keep, dropout)


def threshold(dropout: float) -> int:
    """The random numbers, of LEVELS, that drop an element."""
    return round(dropout * LEVELS)


def keep_mask(x: Tensor, dropout: float) -> Tensor:
    """Which elements of an input stay, bool of its shape: four decisions from one random number of 64 bits.

    That costs a tenth of what torch's own takes on a CPU, and has its chances in steps of 1/65,536.
    """
    drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    return (drawn.view(torch.int16)[: x.numel()] >= threshold(dropout) - LEVELS // 2).view(x.shape)


class AdaptedLinear(torch.autograd.Function):
    """W x + bias + scale B A drop(x); W and its bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (..., in)
        weight: Tensor,  # (out, in)
        bias: Tensor | None,
        a: Tensor,  # (r, in)
        b: Tensor,  # (out, r)
        scale: float,
        keep: Tensor | None,  # of x's shape: what dropout leaves
        dropout: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        rest = 1 / (1 - threshold(dropout) / LEVELS)
        dropped = rows if keep is None else rows * keep.view(rows.shape)
        low = dropped @ a.T  # (rows, r)
        output = nn.functional.linear(rows, weight, bias)
        output.addmm_(low, b.T, alpha=scale * rest)
        ctx.save_for_backward(rows, weight, a, b, low, keep)
        ctx.scale = scale * rest
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, low, keep = ctx.saved_tensors
        upper = grads[0].reshape(-1, grads[0].shape[-1])  # (rows, out)
        at_low = (upper @ b).mul_(ctx.scale)  # (rows, r)
        kept = None if keep is None else keep.view(rows.shape)
        of_a = at_low.T @ (rows if kept is None else rows * kept)
        of_b = (upper.T @ low).mul_(ctx.scale)
        of_x = upper @ weight
        if kept is None:
            of_x.addmm_(at_low, a)
        else:
            of_x.addcmul_(at_low @ a, kept.to(of_x.dtype))
        return of_x.view(*grads[0].shape[:-1], -1), None, None, of_a, of_b, None, None, None
