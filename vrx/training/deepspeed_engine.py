"""The DeepSpeed engine (ZeRO 0 to 3) and everything that reaches into DeepSpeed's internals."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from vrx.config.errors import UserError
from vrx.config.schema import EngineConfig, TrainConfig
from vrx.launch.devices import device
from vrx.launch.ranks import world_size
from vrx.training.engine import total_grad_norm
from vrx.training.optimizer import master_weights, scale_lr
from vrx.training.optimizer_state import Fragment, State, load_optimizer_state, optimizer_state, whole

RELEASE = "0.19"  # whose internals are used: fp32_partitioned_groups_flat, build_shm_op


class DeepSpeedEngine:
    """DeepSpeed; at ZeRO-3 the ranks share out parameters, gradients and optimizer state."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, object], *, zero_stage: int
    ) -> None:
        deepspeed = start_deepspeed()
        self.engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
        self.module, self.optimizer, self.zero_stage = self.engine.module, optimizer, zero_stage
        self.grad_norm: float | None = None

    def __call__(self, *args: object, **kwargs: object) -> Tensor:
        return self.engine(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        is_update = self.engine.is_gradient_accumulation_boundary()
        unsharded_norm = total_grad_norm(master_weights(self.optimizer)) if is_update and self.zero_stage == 0 else None
        self.engine.step()
        if is_update:
            norm = self.engine.get_global_grad_norm()  # None for ZeRO-0 in fp32
            self.grad_norm = unsharded_norm if norm is None else float(norm)

    def set_lr(self, factor: float) -> None:
        scale_lr(self.optimizer, factor)

    def weights(self) -> State:
        import deepspeed

        named = {name: tensor for name, tensor in self.module.named_parameters() if tensor.requires_grad}
        with deepspeed.zero.GatheredParameters(list(named.values()), enabled=self.zero_stage == 3):
            return {name: tensor.detach().float().cpu().clone() for name, tensor in named.items()}

    def optimizer_state(self) -> State:
        return optimizer_state(self.optimizer, self._fragments, self._masters())

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        load_optimizer_state(self.optimizer, self._fragments, self._masters(), state)

    def _fragments(self) -> list[Fragment]:
        named = [(name, weight) for name, weight in self.module.named_parameters() if weight.requires_grad]
        return [self._fragment(name, weight) for name, weight in named]

    def _fragment(self, name: str, weight: Tensor) -> Fragment:
        """Where DeepSpeed keeps this rank's part of a parameter."""
        if self.zero_stage == 3:
            sharded = self.engine.optimizer
            group, offset, numel = sharded.grad_position[sharded.get_param_id(weight)]
            start = torch.distributed.get_rank() * numel
            numel = max(0, min(numel, weight.ds_numel - start))  # the last parts are padded
            master = sharded.fp32_partitioned_groups_flat[group]
            return Fragment(name, weight.ds_shape, master, offset, start if numel else 0, numel)
        if not hasattr(weight, "_hp_mapping"):  # ZeRO-0 in fp32
            return whole(name, weight)
        part, masters = weight._hp_mapping, master_weights(self.optimizer)
        if part is None:
            return Fragment(name, weight.shape, masters[0], 0, 0, 0)
        here, there = part.lp_fragment_address, part.hp_fragment_address
        return Fragment(name, weight.shape, masters[part.param_group_index], there.start, here.start, here.numel)

    def _masters(self) -> list[Tensor]:
        if self.zero_stage == 3:  # DeepSpeed shows them to the optimizer one at a time
            return list(self.engine.optimizer.fp32_partitioned_groups_flat)
        return master_weights(self.optimizer)


def start_deepspeed() -> ModuleType:
    """Import DeepSpeed without its log lines and join the process group.

    A `UserError` for a release whose internals may differ.
    """
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import deepspeed
    from deepspeed.utils import logger

    if deepspeed.__version__.split(".")[:2] != RELEASE.split("."):
        raise UserError(
            f"deepspeed {deepspeed.__version__}: vrx supports {RELEASE}; run `pip install 'deepspeed=={RELEASE}.*'`"
        )
    logger.setLevel(logging.ERROR)
    if device().type == "cpu":
        # Otherwise joining compiles a shared-memory kernel in C++, and fails where there is no compiler.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed(dist_backend="nccl" if device().type == "cuda" else "gloo", verbose=False)
    return deepspeed


@contextmanager
def zero3_loading(train: TrainConfig, engine: EngineConfig, *, enabled: bool = True) -> Iterator[None]:
    """At ZeRO-3, share out what `from_pretrained` loads in this block among the ranks while it is read.

    Rank 0 reads the files; the other ranks never hold more than their part. Without this block every rank would load
    a whole copy.
    """
    if not enabled or engine.name != "deepspeed" or engine.zero_stage != 3:
        yield
        return
    start_deepspeed()
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    config = HfDeepSpeedConfig(deepspeed_config(None, train, engine))  # transformers finds it while it is referenced
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del config


@contextmanager
def whole_parameters(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """In this block, parameters that ZeRO-3 has shared out are whole on every rank, and writable.

    At its end they are shared out again, with the values of rank 0. All ranks enter the block.
    """
    shared = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not shared:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(shared, modifier_rank=0):
        yield


def hidden_size(module: nn.Module) -> int:
    """The width of the embeddings, also after ZeRO-3 has shared them out."""
    embeddings = (parameter for name, parameter in module.named_parameters() if "embed_tokens" in name)
    return max(getattr(parameter, "ds_shape", parameter.shape)[-1] for parameter in embeddings)


def deepspeed_config(module: nn.Module | None, train: TrainConfig, engine: EngineConfig) -> dict[str, object]:
    """The authors' zero3.json with its `auto` values filled in as transformers did (from the hidden size h).

    Without a module these values are left out.
    """
    zero: dict[str, object] = {"stage": engine.zero_stage, "overlap_comm": True, "contiguous_gradients": True}
    if engine.zero_stage == 3 and module is not None:
        hidden = hidden_size(module)
        small = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in module.parameters()) < 1e8
        zero |= {
            "sub_group_size": int(1e9),
            "reduce_bucket_size": hidden * hidden,
            "stage3_prefetch_bucket_size": int(0.9 * hidden * hidden),
            "stage3_param_persistence_threshold": 10 * hidden,
            "stage3_max_live_parameters": int(1e9),
            # With a distance above the model's size DeepSpeed searches all modules at each one, which takes seconds.
            "stage3_max_reuse_distance": 0 if small else int(1e9),
        }
    return {
        "train_batch_size": train.global_batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch_size,
        "gradient_accumulation_steps": train.global_batch_size // (train.micro_batch_size * world_size()),
        "gradient_clipping": train.max_grad_norm,  # if left out, DeepSpeed 0.19.3 and later would clip at 1.0
        "bf16": {"enabled": train.dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's own would be compiled
        "steps_per_print": sys.maxsize,
    }
