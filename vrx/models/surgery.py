"""Layers put back to the backbone's weights, layers cut out, and the weights on disk that both are compared with."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerBase

from vrx.config.errors import UserError

# In memory and in a backbone's files; in an LVLM's files; in a bare decoder. A vision tower's layers match none.
LAYER = re.compile(r"(?:model\.language_model\.|language_model\.model\.|model\.|)layers\.(\d+)\.(.+)")
DERIVED = "rotary_emb.inv_freq"  # a buffer that old checkpoints hold and models compute
Match = dict[str, tuple[str, str]]  # of one layer: a tensor's name within the layer -> its name here, its name there


def match_layers(state: Mapping[str, Tensor], backbone_state: Mapping[str, Tensor]) -> list[Match]:
    """The decoder layers of two models tensor by tensor; refused unless they have the same names and shapes.

    Either may be a backbone or an LVLM, in memory or `Stored`. What is no decoder layer does not matter.
    """
    ours, theirs = _layers(state), _layers(backbone_state)
    if len(ours) != len(theirs):
        raise UserError(f"the backbone has {len(theirs)} decoder layers, the model has {len(ours)}")
    for layer, (here, there) in enumerate(zip(ours, theirs, strict=True)):
        if here.keys() != there.keys():
            only = f"{sorted(here.keys() - there.keys())}, the backbone's has {sorted(there.keys() - here.keys())}"
            raise UserError(f"decoder layer {layer}: of tensors the other lacks, the model's has {only}")
        for name in here:
            shapes = _shape(state, here[name]), _shape(backbone_state, there[name])
            if shapes[0] != shapes[1]:
                raise UserError(f"decoder layer {layer}: {name} is {shapes[0]}, in the backbone {shapes[1]}")
    return [
        {name: (here[name], there[name]) for name in sorted(here)} for here, there in zip(ours, theirs, strict=True)
    ]


def _layers(state: Mapping[str, Tensor]) -> list[dict[str, str]]:
    """Of each decoder layer: a tensor's name within the layer -> its name in the state."""
    found: dict[int, dict[str, str]] = {}
    for full in state:
        match = LAYER.fullmatch(full)
        if match and not full.endswith(DERIVED):
            found.setdefault(int(match[1]), {})[match[2]] = full
    if not found:
        raise UserError(f"no decoder layers among {len(state)} tensors, the first ones {list(state)[:3]}")
    return [found.get(layer, {}) for layer in range(max(found) + 1)]


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    shapes = getattr(state, "shapes", None)  # where a state knows them without reading the tensor
    return tuple(shapes[name] if shapes is not None else state[name].shape)


def revert_layers(model: PreTrainedModel, backbone_state: Mapping[str, Tensor], layers: Sequence[int]) -> None:
    """Put the weights of the backbone back into some decoder layers, in place (Figure 1, left).

    The state may be that of a backbone or of an LVLM (which undoes a reversion), and is read a tensor at a time. Every
    layer has to match it, also those that stay; embeddings, final norm and head are left alone. Weights that come in
    another dtype are rounded to the model's.
    """
    chosen = _checked(layers, len(_decoder(model).layers))
    state = model.state_dict()
    matches = match_layers(state, backbone_state)
    with torch.no_grad():
        for layer in chosen:
            for here, there in matches[layer].values():
                state[here].copy_(backbone_state[there])


@contextlib.contextmanager
def reverted(model: PreTrainedModel, backbone_state: Mapping[str, Tensor], layers: Sequence[int]) -> Iterator[None]:
    """Put layers back while the block runs; afterwards the model is bit for bit what it was."""
    decoder = _decoder(model).layers
    chosen = [decoder[layer] for layer in _checked(layers, len(decoder))]
    before = [{name: tensor.to("cpu", copy=True) for name, tensor in layer.state_dict().items()} for layer in chosen]
    try:
        revert_layers(model, backbone_state, layers)
        yield
    finally:
        for layer, state in zip(chosen, before, strict=True):
            layer.load_state_dict(state)


def prune_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Drop decoder layers of an LVLM or of a plain backbone, in place (section 6; Figure 1, right; Figure 4).

    The rest moves up: layer numbers, which the KV cache goes by, and the configuration are made right.
    """
    decoder = _decoder(model)
    depth = len(decoder.layers)
    dropped = set(_checked(layers, depth))
    if len(dropped) == depth:
        raise ValueError(f"all {depth} decoder layers to be pruned: at least one has to stay")
    if any("lora_" in name for name, _ in model.named_parameters()):
        raise ValueError("adapters name layers by number: merge them before pruning")
    kept = [layer for layer in range(depth) if layer not in dropped]
    decoder.layers = nn.ModuleList(decoder.layers[layer] for layer in kept)
    module: Any
    for number, layer in enumerate(decoder.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    for config in _configs(model, decoder):
        for key, value in vars(config).items():
            if "layer" in key and isinstance(value, list) and len(value) == depth:  # such as layer_types
                setattr(config, key, [value[layer] for layer in kept])
        config.num_hidden_layers = len(kept)


def _checked(layers: Sequence[int], depth: int) -> list[int]:
    if len(set(layers)) != len(layers) or any(not 0 <= layer < depth for layer in layers):
        raise ValueError(f"layers {list(layers)}: valid are distinct layers among 0 to {depth - 1}")
    return sorted(layers)


def _decoder(model: PreTrainedModel) -> Any:
    if isinstance(model, LlavaForConditionalGeneration):
        return model.model.language_model
    core = getattr(model, getattr(model, "base_model_prefix", ""), model)
    if not isinstance(getattr(core, "layers", None), nn.ModuleList):
        raise TypeError(f"{type(model).__name__}: valid are LlavaForConditionalGeneration and decoder-only backbones")
    return core


def _configs(model: PreTrainedModel, decoder: nn.Module) -> list[Any]:
    """Every configuration that tells the decoder's depth: an assembled LVLM may hold the same one twice."""
    found = [model.config.get_text_config(), *(getattr(module, "config", None) for module in decoder.modules())]
    return list({id(config): config for config in found if hasattr(config, "num_hidden_layers")}.values())


def save_pruned(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, told: str) -> None:
    """Save a checkpoint that `from_pretrained` loads with no code of ours, and a model card; whole or not at all.

    `told` says what was cut, in sentences for the card; `tokenizer` may be a processor. A folder that is there is
    replaced.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    name, depth = type(model).__name__, len(_decoder(model).layers)
    (partial / "README.md").write_text(
        f"---\nlibrary_name: transformers\ntags: [pruned]\n---\n# {folder.name}\n\n{told.strip()}\n\n"
        f"{depth} decoder layers are left, {model.num_parameters():,} parameters in all. A plain checkpoint:\n\n"
        f"```python\nfrom transformers import {name}\n\nmodel = {name}.from_pretrained(folder)\n```\n",
        encoding="utf-8",
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
