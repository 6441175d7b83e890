"""LoRA on chosen decoder layers, with the projector trained beside it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from vrx.config.errors import UserError
from vrx.config.schema import LoraConfig, TrainConfig
from vrx.models.architecture import matches_target
from vrx.models.lvlm import DECODER, decoder_layers, projector

LAYERS_PATH = f"{DECODER}layers"
PEFT_INITIALIZATION = {None: True, "true": True, "gaussian": "gaussian"}  # lora.init -> PEFT's init_lora_weights


def apply_lora(
    model: LlavaForConditionalGeneration, layers: Sequence[int], config: LoraConfig, *, seed: int = 0
) -> peft.PeftModel:
    """Put LoRA on Linear modules of the chosen decoder layers and make the projector trainable; freeze everything else.

    layers: distinct decoder layers from 0. Without `lora.target_modules` every Linear of a layer gets an adapter. The
    initial weights of an adapter depend on (seed, layer, module) only, so ablations are paired. Modules are named by
    their full path: PEFT's `layers_to_transform` would also match the vision tower's layers of the same number, read an
    empty list as all layers and ignore a missing layer. `UserError` for invalid layers, init and target modules.
    """
    depth = len(decoder_layers(model))
    outside = [layer for layer in layers if not 0 <= layer < depth]
    if not layers or outside or len(set(layers)) != len(layers):
        raise UserError(f"layers {list(layers)}: valid are distinct layers among 0 to {depth - 1}, at least one")
    initialization = None if config.init is None else config.init.lower()
    if initialization not in PEFT_INITIALIZATION:
        raise UserError(
            f"lora.init={config.init}: valid are true and gaussian, whose adapters start without effect and depend on "
            "the seed, the layer and the module only"
        )
    targets = _target_paths(model, layers, config)
    options = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        bias="none",
        target_modules=targets,
        use_rslora=bool(config.use_rslora),
        use_dora=bool(config.use_dora),
        init_lora_weights=PEFT_INITIALIZATION[initialization],  # type: ignore[arg-type]
    )
    tuned = peft.get_peft_model(model, options, autocast_adapter_dtype=False)
    projector(tuned).requires_grad_(True)
    _initialize(tuned, seed, gaussian_std=1 / config.r if initialization == "gaussian" else None)
    _assert_trainable(tuned, layers, num_tensors=len(targets) * (3 if config.use_dora else 2))
    return tuned


def _target_paths(model: LlavaForConditionalGeneration, layers: Sequence[int], config: LoraConfig) -> list[str]:
    """Full paths of the Linear modules that get an adapter."""
    linears = {
        layer: [name for name, module in decoder_layers(model)[layer].named_modules() if isinstance(module, nn.Linear)]
        for layer in layers
    }
    targets = config.target_modules
    if targets is not None:
        names = sorted({name for layer in layers for name in linears[layer]})
        unknown = [target for target in targets if not any(matches_target(name, [target]) for name in names)]
        if unknown or not targets:
            raise UserError(
                f"lora.target_modules={targets}: {', '.join(unknown) or 'empty'}; the decoder layers have "
                f"{', '.join(name.rpartition('.')[2] for name in names)}"
            )
    return [
        f"{LAYERS_PATH}.{layer}.{name}"
        for layer in layers
        for name in linears[layer]
        if targets is None or matches_target(name, targets)
    ]


def _initialize(model: nn.Module, seed: int, *, gaussian_std: float | None) -> None:
    """Draw every lora_A from a generator of its own and set lora_B to zero.

    lora_A is Kaiming-uniform as in nn.Linear, or normal with the given standard deviation. DoRA's magnitudes are the
    row norms of the frozen weights and stay as PEFT sets them.
    """
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            path = name.partition(LAYERS_PATH)[2].partition(".lora_A")[0]  # .12.self_attn.q_proj
            hashed = hashlib.sha256(f"{seed}{path}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
            initial = torch.empty(parameter.shape)
            if gaussian_std is None:
                nn.init.kaiming_uniform_(initial, a=math.sqrt(5), generator=generator)
            else:
                nn.init.normal_(initial, std=gaussian_std, generator=generator)
            parameter.data.copy_(initial)
        elif "lora_B" in name:
            nn.init.zeros_(parameter)


def _assert_trainable(model: nn.Module, layers: Sequence[int], *, num_tensors: int) -> None:
    """Adapters sit on exactly these layers; besides them only the projector is trained."""
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    adapters = [name for name in trainable if "lora_" in name]
    adapted_layers = {int(layer) for name in adapters for layer in re.findall(rf"{LAYERS_PATH}\.(\d+)\.", name)}
    assert adapted_layers == set(layers), f"adapters sit on layers {sorted(adapted_layers)}, not on {sorted(layers)}"
    assert len(adapters) == num_tensors, f"{len(adapters)} adapter tensors instead of {num_tensors}"
    assert all(LAYERS_PATH in name for name in adapters), "an adapter outside the decoder"
    others = [name for name in trainable if "lora_" not in name]
    assert others, "the projector is not trained"
    assert all("multi_modal_projector" in name for name in others), f"trainable besides the projector: {others}"


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name and parameter of everything that is trained, in a fixed order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer_groups(trainable: dict[str, nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups as in the official code: adapters, the projector's weights at their own learning rate, and the
    projector's biases without weight decay. Where the projector is trained alone there are no adapters."""

    def projector_tensors(suffix: str) -> list[nn.Parameter]:
        return [tensor for name, tensor in trainable.items() if "lora_" not in name and name.endswith(suffix)]

    adapters = [tensor for name, tensor in trainable.items() if "lora_" in name]
    groups = [
        {"params": adapters, "lr": config.lr},
        {"params": projector_tensors("weight"), "lr": config.projector_lr},
        {"params": projector_tensors("bias"), "lr": config.projector_lr, "weight_decay": 0.0},
    ]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    return [group for group in groups if group["params"]]
