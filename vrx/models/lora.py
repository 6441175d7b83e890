"""LoRA on chosen decoder layers, and the projector trained beside it; saving and loading both."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import LoraConfig, ModelConfig, TrainConfig
from vrx.models.checkpoint_layouts import PROJECTOR_FILE
from vrx.models.loading import decoder_layers, load, merge_adapter, projector
from vrx.runs.run_dir import RunDir

LAYERS_PATH = "model.language_model.layers"
WRAPPED = "base_model.model."  # what PEFT puts before the names of the model it wraps


def apply_lora(
    model: LlavaForConditionalGeneration, layers: Sequence[int], config: LoraConfig, *, seed: int = 0
) -> peft.PeftModel:
    """Put LoRA on every Linear of the chosen decoder layers and make the projector trainable; all else is frozen.

    Modules are named by their full path: PEFT's `layers_to_transform` would also match the vision tower's layers of
    the same number, take an empty list for all layers and ignore a layer that does not exist. What came of it is
    asserted. The initialisation of an adapter depends on (seed, layer, module) only, so ablations are paired.
    """
    depth = len(decoder_layers(model))
    outside = [layer for layer in layers if not 0 <= layer < depth]
    if not layers or outside or len(set(layers)) != len(layers):
        raise ValueError(f"layers {list(layers)}: valid are distinct layers among 0 to {depth - 1}, at least one")
    targets = [
        f"{LAYERS_PATH}.{layer}.{name}"
        for layer in layers
        for name, module in decoder_layers(model)[layer].named_modules()
        if isinstance(module, nn.Linear)
    ]
    options = peft.LoraConfig(
        r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, bias="none", target_modules=targets
    )
    tuned = peft.get_peft_model(model, options, autocast_adapter_dtype=False)
    projector(tuned).requires_grad_(True)
    _initialise(tuned, seed)
    _assert_only(tuned, layers, len(targets))
    return tuned


def _initialise(model: nn.Module, seed: int) -> None:
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            path = name.partition(LAYERS_PATH)[2].partition(".lora_A")[0]  # .12.self_attn.q_proj
            told = hashlib.sha256(f"{seed}{path}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(told[:8], "big") >> 1)
            fresh = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(fresh)
        elif "lora_B" in name:
            nn.init.zeros_(parameter)


def _assert_only(model: nn.Module, layers: Sequence[int], num_modules: int) -> None:
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    lora = [name for name in trainable if "lora_" in name]
    carrying = {int(found) for name in lora for found in re.findall(rf"{LAYERS_PATH}\.(\d+)\.", name)}
    assert carrying == set(layers), f"adapters sit on layers {sorted(carrying)}, not on {sorted(layers)}"
    assert len(lora) == 2 * num_modules and all(LAYERS_PATH in name for name in lora), "an adapter outside the decoder"
    rest = [name for name in trainable if "lora_" not in name]
    assert rest and all("multi_modal_projector" in name for name in rest), f"trainable besides the projector: {rest}"


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name and parameter of everything that is trained, in a fixed order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def optimizer_groups(trainable: dict[str, nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    """Adapters; the projector's weights at their own learning rate; its biases, which do not decay. As in the official
    code."""

    def chosen(suffix: str) -> list[nn.Parameter]:
        return [tensor for name, tensor in trainable.items() if "lora_" not in name and name.endswith(suffix)]

    adapters = [tensor for name, tensor in trainable.items() if "lora_" in name]
    groups = [
        {"params": adapters, "lr": config.lr},
        {"params": chosen("weight"), "lr": config.projector_lr},
        {"params": chosen("bias"), "lr": config.projector_lr, "weight_decay": 0.0},
    ]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    return groups


def save_adapter(model: peft.PeftModel, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Save the adapter in PEFT's own format and the projector beside it; `state` holds full tensors by name, of the
    LVLM or of the wrapped one: PEFT leaves a name without its own prefix out, silently."""
    named = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items() if "lora_" in name}
    model.save_pretrained(str(folder), state_dict={f"{WRAPPED}{name}": tensor for name, tensor in named.items()})
    written = len(load_file(folder / "adapter_model.safetensors"))
    assert written == len(named) > 0, f"{written} of {len(named)} tensors of the adapter were saved"
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    told = json.loads((folder / "adapter_config.json").read_text())
    told["target_modules"].sort()  # a set to PEFT, which would write it in another order each time
    (folder / "adapter_config.json").write_text(json.dumps(told, indent=2, sort_keys=True))
    prefix = "multi_modal_projector."
    tensors = {name.rpartition(prefix)[2]: tensor.contiguous() for name, tensor in state.items() if prefix in name}
    save_file(tensors, folder / PROJECTOR_FILE)


def load_adapter(model: LlavaForConditionalGeneration, folder: Path) -> LlavaForConditionalGeneration:
    """The LVLM with a saved adapter merged into its weights and the tuned projector in place."""
    merge_adapter(model, folder)
    projector(model).load_state_dict(load_file(folder / PROJECTOR_FILE))
    return model


def load_tuned(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The LVLM as a run left it: its adapter merged and its projector, or untouched where the run has none."""
    lvlm = load(config, dtype=dtype)
    adapter = RunDir(run_dir).adapter
    return load_adapter(lvlm, adapter) if adapter.is_dir() else lvlm
