"""A frozen Linear and its LoRA adapter as one operation: PEFT's result with fewer copies and saved tensors.

PEFT adds the adapter's output to the Linear's with passes over the whole output for scaling and sum, and saves the
dropped-out input in full precision for each module. Here the last product is added in place to the Linear's output, and
of dropout only a mask is saved, on a GPU of one byte per element.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # values of the random number that decides on one element


def fuse(model: nn.Module) -> int:
    """Run every Linear of the model that has a PEFT adapter as one operation; gives the number of these Linears."""
    adapted = [module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]
    assert not any(getattr(module, "lora_magnitude_vector", None) for module in adapted), "DoRA cannot be fused"
    for module in adapted:
        module.forward = types.MethodType(_forward, module)
    return len(adapted)


def _forward(module: Any, x: Tensor) -> Tensor:
    (name,) = module.active_adapters
    dropout = getattr(module.lora_dropout[name], "p", 0.0) if module.training else 0.0
    mask = keep_mask(x, dropout) if dropout else None
    base = module.base_layer
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return AdaptedLinear.apply(x, base.weight, base.bias, a, b, module.scaling[name], mask, dropout)


def threshold(dropout: float) -> int:
    """How many of the LEVELS random values drop an element."""
    return round(dropout * LEVELS)


def keep_mask(x: Tensor, dropout: float) -> Tensor:
    """A random mask of the elements of `x` that dropout keeps, of its shape: bool, or 0 and 1 of its dtype on a CPU,
    which multiplies by another dtype several times more slowly.

    One random number of 64 bits decides on four elements. On a CPU this takes a tenth of the time of torch's own
    dropout; probabilities come in steps of 1/65,536.
    """
    numbers = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
    mask = torch.empty_like(x, dtype=x.dtype if x.device.type == "cpu" else torch.bool).view(-1)
    torch.ge(numbers.view(torch.int16)[: x.numel()], threshold(dropout) - LEVELS // 2, out=mask)
    return mask.view(x.shape)


class AdaptedLinear(torch.autograd.Function):
    """W x + bias + scale B A dropout(x); W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (..., in)
        weight: Tensor,  # (out, in)
        bias: Tensor | None,
        a: Tensor,  # (r, in)
        b: Tensor,  # (out, r)
        scale: float,
        mask: Tensor | None,  # of x's shape, as of keep_mask
        dropout: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        dropout_scale = 1 / (1 - threshold(dropout) / LEVELS)
        dropped = rows if mask is None else rows * mask.view(rows.shape)
        low_rank = dropped @ a.T  # (rows, r)
        output = nn.functional.linear(rows, weight, bias)
        output.addmm_(low_rank, b.T, alpha=scale * dropout_scale)
        ctx.save_for_backward(rows, weight, a, b, low_rank, mask)
        ctx.scale = scale * dropout_scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, low_rank, mask = ctx.saved_tensors
        grad_output = grads[0].reshape(-1, grads[0].shape[-1])  # (rows, out)
        grad_low_rank = (grad_output @ b).mul_(ctx.scale)  # (rows, r)
        row_mask = None if mask is None else mask.view(rows.shape)
        grad_a = grad_low_rank.T @ (rows if row_mask is None else rows * row_mask)
        grad_b = (grad_output.T @ low_rank).mul_(ctx.scale)
        grad_x = grad_output @ weight
        if row_mask is None:
            grad_x.addmm_(grad_low_rank, a)
        else:
            grad_x.addcmul_(grad_low_rank @ a, row_mask.to(grad_x.dtype))
        return grad_x.view(*grads[0].shape[:-1], -1), None, None, grad_a, grad_b, None, None, None
