"""Engines turn gradients into updates: the protocol, and plain torch as the reference and the fast path.

The other engine is DeepSpeed (ZeRO 0 to 3), see `deepspeed_engine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from vrx.config.schema import EngineConfig, TrainConfig
from vrx.launch.devices import device
from vrx.launch.ranks import world_size
from vrx.training.optimizer import make_optimizer, master_weights, scale_lr
from vrx.training.optimizer_state import Fragment, State, load_optimizer_state, optimizer_state, whole


class Engine(Protocol):
    """The model being trained, in one process. All ranks call every method."""

    module: nn.Module
    grad_norm: float | None  # of the last update: 2-norm of all gradients before clipping

    def __call__(self, *args: object, **kwargs: object) -> Tensor: ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one micro-batch; update the weights at the end of the global batch.

        The update follows the mean of the losses over micro-batches and ranks.
        """
        ...

    def set_lr(self, factor: float) -> None:
        """Multiply each group's initial learning rate."""
        ...

    def weights(self) -> State:
        """Full trainable tensors by name, on the CPU in fp32."""
        ...

    def optimizer_state(self) -> State:
        """This rank's share of master weights and moments, see `vrx.training.optimizer_state`."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `optimizer_state` gave on all ranks, also on another number of them."""
        ...


def create(module: nn.Module, groups: list[dict[str, object]], train: TrainConfig, engine: EngineConfig) -> Engine:
    """Make an engine for a module; `groups` are optimizer groups of trainable parameters with their `lr`."""
    optimizer = make_optimizer(groups, train)
    accumulation = train.global_batch_size // (train.micro_batch_size * world_size())
    if engine.name == "torch":
        return TorchEngine(module, optimizer, accumulation=accumulation, max_norm=train.max_grad_norm)
    assert engine.zero_stage is not None, "fast_path.decide sets it"
    from vrx.training.deepspeed_engine import DeepSpeedEngine, deepspeed_config

    return DeepSpeedEngine(module, optimizer, deepspeed_config(module, train, engine), zero_stage=engine.zero_stage)


class TorchEngine:
    """Plain torch in one process.

    Keeps fp32 master copies of bf16 weights and accumulates gradients in them, like DeepSpeed. max_norm: where
    gradients are clipped, 0 for no clipping.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, *, accumulation: int, max_norm: float
    ) -> None:
        self.module, self.optimizer = module.to(device()), optimizer
        self.accumulation, self.max_norm, self.pending = accumulation, max_norm, 0
        self.grad_norm: float | None = None
        self.low_precision: list[tuple[Tensor, Tensor]] = []  # a weight and its fp32 master copy
        for group in optimizer.param_groups:
            for index, weight in enumerate(group["params"]):
                if weight.dtype != torch.float32:
                    group["params"][index] = nn.Parameter(weight.detach().float())
                    self.low_precision.append((weight, group["params"][index]))

    def __call__(self, *args: object, **kwargs: object) -> Tensor:
        return self.module(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        (loss / self.accumulation).backward()
        for weight, master in self.low_precision:
            if weight.grad is not None:
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None
        self.pending += 1
        if self.pending == self.accumulation:
            self._update()
            self.pending = 0

    def _update(self) -> None:
        masters = master_weights(self.optimizer)
        self.grad_norm = total_grad_norm(masters)
        if self.max_norm:
            nn.utils.clip_grad_norm_(masters, self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for weight, master in self.low_precision:
            weight.data.copy_(master)

    def set_lr(self, factor: float) -> None:
        scale_lr(self.optimizer, factor)

    def weights(self) -> State:
        named = self.module.named_parameters()
        return {name: tensor.detach().float().cpu().clone() for name, tensor in named if tensor.requires_grad}

    def optimizer_state(self) -> State:
        return optimizer_state(self.optimizer, self._fragments, master_weights(self.optimizer))

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        load_optimizer_state(self.optimizer, self._fragments, master_weights(self.optimizer), state)

    def _fragments(self) -> list[Fragment]:
        masters = {id(weight): master for weight, master in self.low_precision}
        named = [(name, weight) for name, weight in self.module.named_parameters() if weight.requires_grad]
        return [whole(name, masters.get(id(weight), weight)) for name, weight in named]


def total_grad_norm(parameters: list[Tensor]) -> float:
    """2-norm of all gradients together."""
    return float(nn.utils.get_total_norm([tensor.grad for tensor in parameters if tensor.grad is not None]))
