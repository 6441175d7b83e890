"""The optimizer of a run by name."""

from __future__ import annotations

import torch
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.schema import TrainConfig

BETAS, EPS = (0.9, 0.999), 1e-8  # torch's defaults


def make_optimizer(groups: list[dict[str, object]], train: TrainConfig) -> torch.optim.Optimizer:
    """AdamW for groups of trainable parameters, each with its own `lr`.

    `train.optimizer=adamw_8bit` keeps the moments in 8 bits (bitsandbytes; Dettmers et al., 2022), a quarter of the
    memory. A `UserError` where bitsandbytes is not installed.
    """
    if train.optimizer in (None, "adamw"):
        return torch.optim.AdamW(groups, betas=BETAS, eps=EPS, weight_decay=train.weight_decay)
    assert train.optimizer == "adamw_8bit", "validated before"
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError:
        raise UserError(
            "train.optimizer=adamw_8bit: bitsandbytes is not installed; "
            "run `pip install bitsandbytes` or use train.optimizer=adamw"
        ) from None
    return AdamW8bit(groups, betas=BETAS, eps=EPS, weight_decay=train.weight_decay)


def master_weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors that the optimizer updates, in the order of its groups."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def scale_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply each group's initial learning rate."""
    for group in optimizer.param_groups:
        group.setdefault("own_lr", group["lr"])
        group["lr"] = group["own_lr"] * factor
