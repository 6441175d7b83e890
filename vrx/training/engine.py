"""Engines: what turns gradients into updates. DeepSpeed (ZeRO 0 to 3), and plain torch as its oracle and fast path."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from vrx.config.errors import UserError
from vrx.config.schema import EngineConfig, TrainConfig
from vrx.launch.devices import device
from vrx.launch.ranks import world_size

State = dict[str, torch.Tensor]


class Engine(Protocol):
    """One process's hold on the model being trained. Every method is called by all ranks."""

    module: nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def backward(self, loss: torch.Tensor) -> None:
        """Add one micro-batch's gradients, and update at the end of the global batch.

        The update is by the mean over micro-batches and ranks of the losses handed in.
        """
        ...

    def set_lr(self, factor: float) -> None:
        """Multiply each group's own learning rate."""
        ...

    def weights(self) -> State:
        """Full trainable tensors by name, on the CPU in fp32."""
        ...

    def optimizer_state(self) -> State:
        """This rank's part of master weights and moments."""
        ...

    def load_optimizer_state(self, state: State) -> None: ...


def create(module: nn.Module, groups: list[dict[str, Any]], train: TrainConfig, engine: EngineConfig) -> Engine:
    """An engine for a module; `groups` are optimizer groups of trainable parameters with their `lr`."""
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=train.weight_decay)
    accumulation = train.global_batch_size // (train.micro_batch_size * world_size())
    if engine.name == "torch":
        return TorchEngine(module, optimizer, accumulation, train.max_grad_norm)
    assert engine.zero_stage is not None, "switches.decide leaves none open"
    return DeepSpeedEngine(module, optimizer, deepspeed_config(module, train, engine), engine.zero_stage)


class _Engine:
    """What both engines do alike: learning rates, and the optimizer's state by number of its tensors."""

    optimizer: torch.optim.Optimizer

    def _masters(self) -> list[torch.Tensor]:
        return [tensor for group in self.optimizer.param_groups for tensor in group["params"]]

    def set_lr(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group.setdefault("own_lr", group["lr"])
            group["lr"] = group["own_lr"] * factor

    def optimizer_state(self) -> State:
        state: State = {}
        for number, master in enumerate(self._masters()):
            state[f"{number}.master"] = master.detach().cpu().clone()
            for key, value in self.optimizer.state[master].items():
                state[f"{number}.{key}"] = value.detach().cpu().clone()
        return state

    def load_optimizer_state(self, state: State) -> None:
        for number, master in enumerate(self._masters()):
            parts = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{number}.")}
            if parts["master"].shape != master.shape:
                raise UserError(
                    f"checkpoint: tensor {number} is {tuple(parts['master'].shape)}, not {tuple(master.shape)}"
                )
            master.data.copy_(parts.pop("master"))
            self.optimizer.state[master] = {
                key: value.clone() if key == "step" else value.to(master.device) for key, value in parts.items()
            }


class TorchEngine(_Engine):
    """Plain torch in one process. Of weights in half precision the optimizer has, and adds gradients to, a copy in
    full, as DeepSpeed's has."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, accumulation: int, max_norm: float) -> None:
        self.module, self.optimizer = module.to(device()), optimizer
        self.accumulation, self.max_norm, self.pending = accumulation, max_norm, 0
        self.halves: list[tuple[torch.Tensor, torch.Tensor]] = []  # a weight and its copy
        for group in optimizer.param_groups:
            for place, weight in enumerate(group["params"]):
                if weight.dtype != torch.float32:
                    group["params"][place] = nn.Parameter(weight.detach().float())
                    self.halves.append((weight, group["params"][place]))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def backward(self, loss: torch.Tensor) -> None:
        (loss / self.accumulation).backward()
        for weight, master in self.halves:
            if weight.grad is not None:
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None
        self.pending += 1
        if self.pending == self.accumulation:
            if self.max_norm:
                nn.utils.clip_grad_norm_(self._masters(), self.max_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            for weight, master in self.halves:
                weight.data.copy_(master)
            self.pending = 0

    def weights(self) -> State:
        named = self.module.named_parameters()
        return {name: tensor.detach().float().cpu().clone() for name, tensor in named if tensor.requires_grad}


class DeepSpeedEngine(_Engine):
    """DeepSpeed; at ZeRO-3 parameters, gradients and optimizer state are shared among the ranks."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any], zero_stage: int
    ) -> None:
        deepspeed = start_deepspeed()
        self.engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
        self.module, self.optimizer, self.zero_stage = self.engine.module, optimizer, zero_stage

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.engine(*args, **kwargs)

    def backward(self, loss: torch.Tensor) -> None:
        self.engine.backward(loss)
        self.engine.step()

    def _masters(self) -> list[torch.Tensor]:
        if self.zero_stage == 3:  # the optimizer itself sees them one at a time
            return list(self.engine.optimizer.fp32_partitioned_groups_flat)
        return super()._masters()

    def weights(self) -> State:
        import deepspeed

        named = {name: tensor for name, tensor in self.module.named_parameters() if tensor.requires_grad}
        with deepspeed.zero.GatheredParameters(list(named.values()), enabled=self.zero_stage == 3):
            return {name: tensor.detach().float().cpu().clone() for name, tensor in named.items()}


def start_deepspeed() -> Any:
    """Import DeepSpeed quietly and join the process group."""
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    if device().type == "cpu":
        # Without this, joining compiles a shared-memory kernel in C++, and dies where there is no compiler.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed(dist_backend="nccl" if device().type == "cuda" else "gloo", verbose=False)
    return deepspeed


@contextmanager
def sharing_weights(train: TrainConfig, engine: EngineConfig, *, enabled: bool = True) -> Iterator[None]:
    """At ZeRO-3, share out what `from_pretrained` loads in this block among the ranks while it is read.

    Rank 0 reads the files, the others never hold more than their part; `load` would give each a whole copy.
    """
    if not enabled or engine.name != "deepspeed" or engine.zero_stage != 3:
        yield
        return
    start_deepspeed()
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    told = HfDeepSpeedConfig(deepspeed_config(None, train, engine))  # transformers asks for it as long as it lives
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del told


def hidden_size(module: nn.Module) -> int:
    """The width of the embeddings, also where ZeRO-3 has shared them out already."""
    embeddings = (parameter for name, parameter in module.named_parameters() if "embed_tokens" in name)
    return max(getattr(parameter, "ds_shape", parameter.shape)[-1] for parameter in embeddings)


def deepspeed_config(module: nn.Module | None, train: TrainConfig, engine: EngineConfig) -> dict[str, Any]:
    """The authors' zero3.json with its `auto` values filled in as transformers did (from the hidden size h).

    Before there is a module these values are left out.
    """
    zero: dict[str, Any] = {"stage": engine.zero_stage, "overlap_comm": True, "contiguous_gradients": True}
    if engine.zero_stage == 3 and module is not None:
        hidden = hidden_size(module)
        small = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in module.parameters()) < 1e8
        zero |= {
            "sub_group_size": int(1e9),
            "reduce_bucket_size": hidden * hidden,
            "stage3_prefetch_bucket_size": int(0.9 * hidden * hidden),
            "stage3_param_persistence_threshold": 10 * hidden,
            "stage3_max_live_parameters": int(1e9),
            # A distance that the model does not have makes DeepSpeed search all modules at each one, for seconds.
            "stage3_max_reuse_distance": 0 if small else int(1e9),
        }
    return {
        "train_batch_size": train.global_batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": train.global_batch_size // (train.micro_batch_size * world_size()),
        "gradient_clipping": train.max_grad_norm,  # left out, DeepSpeed 0.19.3 and later would clip at 1.0
        "bf16": {"enabled": train.dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's own would be compiled
        "steps_per_print": sys.maxsize,
    }
