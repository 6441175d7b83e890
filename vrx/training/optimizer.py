"""The optimizer of a run by name, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.schema import TrainConfig

State = dict[str, Tensor]
BETAS, EPS = (0.9, 0.999), 1e-8  # torch's defaults
INTEGER = ":int"  # ends the name of a value that the optimizer holds as a Python integer


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


def state_of(optimizer: torch.optim.Optimizer, masters: Sequence[Tensor]) -> State:
    """Master weights and moments on the CPU, as `<number of the tensor>.<name>`."""
    state: State = {}
    for number, master in enumerate(masters):
        state[f"{number}.master"] = master.detach().cpu().clone()
        for key, value in optimizer.state[master].items():
            if isinstance(value, Tensor):
                state[f"{number}.{key}"] = value.detach().cpu().clone()
            else:
                state[f"{number}.{key}{INTEGER}"] = torch.tensor(value)
    return state


def load_state(optimizer: torch.optim.Optimizer, masters: Sequence[Tensor], state: State) -> None:
    """Copy what `state_of` gave into master weights and optimizer; a `UserError` where a shape differs."""
    for number, master in enumerate(masters):
        parts = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{number}.")}
        if parts["master"].shape != master.shape:
            raise UserError(
                f"checkpoint: tensor {number} has shape {tuple(parts['master'].shape)}, expected {tuple(master.shape)}"
            )
        master.data.copy_(parts.pop("master"))
        optimizer.state[master] = dict(_restored(key, value, master.device) for key, value in parts.items())


def _restored(key: str, value: Tensor, device: torch.device) -> tuple[str, Tensor | int]:
    if key.endswith(INTEGER):
        return key.removesuffix(INTEGER), int(value)
    return key, value.clone() if key == "step" else value.to(device)
