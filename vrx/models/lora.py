"""LoRA on chosen decoder layers, with what joins tower and decoder trained beside it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import nn
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import LoraConfig, TrainConfig
from vrx.models.architecture import matches_target
from vrx.models.lvlm import PROJECTOR, connector, decoder_layers, layers_path

PEFT_INITIALIZATION = {None: True, "true": True, "gaussian": "gaussian"}  # lora.init -> PEFT's init_lora_weights


def apply_lora(
    model: PreTrainedModel,
    layers: Sequence[int],
    config: LoraConfig,
    *,
    seed: int = 0,
    beside: Sequence[str] = (PROJECTOR.rstrip("."),),
) -> peft.PeftModel:
    """Put LoRA on Linear modules of the chosen decoder layers and make the connector trainable; freeze everything else.

    layers: distinct decoder layers from 0. beside: paths of the connector's modules or parameters, LLaVA's projector by
    default; empty where adapters alone are trained. Without `lora.target_modules` every Linear of a layer gets an
    adapter. The initial weights of an adapter depend on (seed, layer, module) only, so ablations are paired. Modules
    are named by their full path: PEFT's `layers_to_transform` would also match the vision tower's layers of the same
    number, read an empty list as all layers and ignore a missing layer. `UserError` for invalid layers, init and target
    modules.
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
    for parameter in connector(tuned, beside).values():
        parameter.requires_grad_(True)
    _initialize(tuned, seed, gaussian_std=1 / config.r if initialization == "gaussian" else None)
    _assert_trainable(tuned, layers, beside, num_tensors=len(targets) * (3 if config.use_dora else 2))
    return tuned


def _target_paths(model: PreTrainedModel, layers: Sequence[int], config: LoraConfig) -> list[str]:
    """Full paths of the Linear modules that get an adapter."""
    linears = {
        layer: [name for name, module in decoder_layers(model)[layer].named_modules() if isinstance(module, nn.Linear)]
        for layer in layers
    }
    targets, path = config.target_modules, layers_path(model)
    if targets is not None:
        names = sorted({name for layer in layers for name in linears[layer]})
        unknown = [target for target in targets if not any(matches_target(name, [target]) for name in names)]
        if unknown or not targets:
            raise UserError(
                f"lora.target_modules={targets}: {', '.join(unknown) or 'empty'}; the decoder layers have "
                f"{', '.join(name.rpartition('.')[2] for name in names)}"
            )
    return [
        f"{path}.{layer}.{name}"
        for layer in layers
        for name in linears[layer]
        if targets is None or matches_target(name, targets)
    ]


def _initialize(model: nn.Module, seed: int, *, gaussian_std: float | None) -> None:
    """Draw every lora_A from a generator of its own and set lora_B to zero.

    lora_A is Kaiming-uniform as in nn.Linear, or normal with the given standard deviation. DoRA's magnitudes are the
    row norms of the frozen weights and stay as PEFT sets them.
    """
    layers = layers_path(model)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            path = name.partition(layers)[2].partition(".lora_A")[0]  # .12.self_attn.q_proj
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


def _assert_trainable(model: nn.Module, layers: Sequence[int], beside: Sequence[str], *, num_tensors: int) -> None:
    """Adapters sit on exactly these layers; besides them only the connector is trained."""
    path = layers_path(model)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    adapters = [name for name in trainable if "lora_" in name]
    adapted_layers = {int(layer) for name in adapters for layer in re.findall(rf"{re.escape(path)}\.(\d+)\.", name)}
    assert adapted_layers == set(layers), f"adapters sit on layers {sorted(adapted_layers)}, not on {sorted(layers)}"
    assert len(adapters) == num_tensors, f"{len(adapters)} adapter tensors instead of {num_tensors}"
    assert all(path in name for name in adapters), "an adapter outside the decoder"
    others = [name for name in trainable if "lora_" not in name]
    assert len(others) == len(connector(model, beside)), "the connector is not trained"
    expected = tuple(connector(model, beside))
    assert all(name.endswith(expected) for name in others), f"trainable besides the connector: {others}"


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name and parameter of everything that is trained, in a fixed order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer_groups(trainable: dict[str, nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups as in the official code: adapters, the connector's matrices at their own learning rate, and its
    biases and other vectors without weight decay. Where the projector is trained alone there are no adapters."""

    def connector_tensors(*, matrices: bool) -> list[nn.Parameter]:
        others = [tensor for name, tensor in trainable.items() if "lora_" not in name]
        return [tensor for tensor in others if (len(getattr(tensor, "ds_shape", tensor.shape)) > 1) == matrices]

    adapters = [tensor for name, tensor in trainable.items() if "lora_" in name]
    groups = [
        {"params": adapters, "lr": config.lr},
        {"params": connector_tensors(matrices=True), "lr": config.projector_lr},
        {"params": connector_tensors(matrices=False), "lr": config.projector_lr, "weight_decay": 0.0},
    ]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    return [group for group in groups if group["params"]]
