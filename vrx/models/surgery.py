"""Reverting decoder layers to the backbone's weights, and pruning them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from vrx.config.errors import UserError
from vrx.models import lvlm
from vrx.models.architectures import Architecture
from vrx.models.layer_matching import match_layers
from vrx.models.plain_processor import save_processor
from vrx.runs.durable import partial_folder, put_in_place


def revert_layers(model: PreTrainedModel, backbone_state: Mapping[str, Tensor], layers: Sequence[int]) -> None:
    """Set decoder layers to the weights of the backbone, in place (Figure 1, left).

    backbone_state: of a backbone, or of an LVLM to undo a reversion; read one tensor at a time. All layers must match
    it, unchanged ones too. Embeddings, final norm and head stay. Weights of another dtype are rounded to the model's.
    """
    reverted_layers = _checked(layers, len(lvlm.decoder(model).layers))
    state = model.state_dict()
    matches = match_layers(state, backbone_state, path=lvlm.layers_path(model))
    with torch.no_grad():
        for layer in reverted_layers:
            for name, backbone_name in matches[layer].values():
                state[name].copy_(backbone_state[backbone_name])


@contextlib.contextmanager
def reverted(model: PreTrainedModel, backbone_state: Mapping[str, Tensor], layers: Sequence[int]) -> Iterator[None]:
    """Revert layers inside a `with` block; afterwards all weights are restored bit for bit."""
    all_layers = lvlm.decoder(model).layers
    modules = [all_layers[layer] for layer in _checked(layers, len(all_layers))]
    before = [{name: tensor.to("cpu", copy=True) for name, tensor in module.state_dict().items()} for module in modules]
    try:
        revert_layers(model, backbone_state, layers)
        yield
    finally:
        for module, state in zip(modules, before, strict=True):
            module.load_state_dict(state)


def prune_layers(model: PreTrainedModel, layers: Sequence[int], row: Architecture | None = None) -> None:
    """Remove decoder layers of an LVLM or of a plain backbone, in place (section 6; Figure 1, right; Figure 4).

    The remaining layers are renumbered, because the KV cache is indexed by layer, and the configuration is updated.
    row: of an LVLM that is one checkpoint. `UserError` for layers that cannot be cut.
    """
    row = row or Architecture()
    decoder = lvlm.decoder(model)
    depth = len(decoder.layers)
    pruned = set(_checked(layers, depth))
    if len(pruned) == depth:
        raise UserError(f"cannot prune all {depth} decoder layers: at least one must remain")
    if any("lora_" in name for name, _ in model.named_parameters()):
        raise ValueError("adapters name layers by number: merge them before pruning")
    pinned = sorted(pruned & row.pinned(model.config))
    if pinned:
        cuttable = [layer for layer in range(depth) if layer not in row.pinned(model.config)]
        raise UserError(
            f"layers {pinned} of {type(model).__name__}: what other layers compute depends on them; layers that can be "
            f"cut are {', '.join(map(str, cuttable))}"
        )
    remaining = [layer for layer in range(depth) if layer not in pruned]
    decoder.layers = nn.ModuleList(decoder.layers[layer] for layer in remaining)
    module: Any
    for number, layer in enumerate(decoder.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    for config in _configs(model, decoder):
        for key, value in vars(config).items():
            if "layer" in key and isinstance(value, list) and len(value) == depth:  # such as layer_types
                setattr(config, key, [value[layer] for layer in remaining])
        config.num_hidden_layers = len(remaining)
    row.after_cut(model, remaining)


def _checked(layers: Sequence[int], depth: int) -> list[int]:
    """The layers in ascending order; `UserError` for repeated layers and layers outside the decoder."""
    if len(set(layers)) != len(layers) or any(not 0 <= layer < depth for layer in layers):
        raise UserError(f"layers {list(layers)}: valid are distinct layers among 0 to {depth - 1}")
    return sorted(layers)


def _configs(model: PreTrainedModel, decoder: nn.Module) -> list[PreTrainedConfig]:
    """Every distinct configuration object that holds the decoder's depth."""
    configs = [model.config.get_text_config(), *(getattr(module, "config", None) for module in decoder.modules())]
    return list({id(config): config for config in configs if hasattr(config, "num_hidden_layers")}.values())


def save_pruned(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    description: str,
    *,
    verify: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Save a checkpoint that `from_pretrained` loads without our code, with a model card; the folder is replaced.

    tokenizer: or a processor. description: sentences on what was pruned, for the model card. verify: gets the saved
    folder before it has its name, and raises where it is not what was saved.
    """
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    save_processor(tokenizer, partial)
    name, depth = type(model).__name__, len(lvlm.decoder(model).layers)
    (partial / "README.md").write_text(
        f"---\nlibrary_name: transformers\ntags: [pruned]\n---\n# {folder.name}\n\n{description.strip()}\n\n"
        f"{depth} decoder layers remain, {model.num_parameters():,} parameters in total. A plain checkpoint:\n\n"
        f"```python\nfrom transformers import {name}\n\nmodel = {name}.from_pretrained(folder)\n```\n",
        encoding="utf-8",
    )
    verify(partial)
    put_in_place(partial, folder)
