"""Matching the decoder layers of two models, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from vrx.config.errors import UserError
from vrx.models.checkpoint_layouts import DERIVED

# Prefixes: in memory; in an LVLM's files; in a backbone's files; in a bare decoder. Vision layers do not match.
LAYER = r"(?:model\.language_model\.|language_model\.model\.|model\.|)layers"
Match = dict[str, tuple[str, str]]  # name within the layer -> (name in the model, name in the backbone)


def match_layers(
    state: Mapping[str, Tensor], backbone_state: Mapping[str, Tensor], *, path: str | None = None
) -> list[Match]:
    """Match the decoder layers of two models, which must have the same names and shapes; one match per layer.

    Either state may be that of a backbone or of an LVLM, in memory or a `LazyStateDict`. Other tensors are ignored.
    path: of the decoder layers, where it may be another than those of LLaVA and plain backbones.
    """
    pattern = re.compile(rf"(?:{LAYER}{f'|{re.escape(path)}' if path else ''})\.(\d+)\.(.+)")
    ours, theirs = _layer_tensors(state, pattern), _layer_tensors(backbone_state, pattern)
    if len(ours) != len(theirs):
        raise UserError(f"the backbone has {len(theirs)} decoder layers, the model has {len(ours)}")
    matches = []
    for layer, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        if own.keys() != other.keys():
            only = f"{sorted(own.keys() - other.keys())}, only the backbone {sorted(other.keys() - own.keys())}"
            raise UserError(f"decoder layer {layer}: only the model has {only}")
        for name in own:
            shape, backbone_shape = _shape(state, own[name]), _shape(backbone_state, other[name])
            if shape != backbone_shape:
                raise UserError(f"decoder layer {layer}: {name} is {shape}, in the backbone {backbone_shape}")
        matches.append({name: (own[name], other[name]) for name in sorted(own)})
    return matches


def _layer_tensors(state: Mapping[str, Tensor], pattern: re.Pattern[str]) -> list[dict[str, str]]:
    """For each decoder layer: name within the layer -> name in the state."""
    layers: dict[int, dict[str, str]] = {}
    for full_name in state:
        match = pattern.fullmatch(full_name)
        if match and not DERIVED.fullmatch(full_name):
            layers.setdefault(int(match[1]), {})[match[2]] = full_name
    if not layers:
        raise UserError(f"no decoder layers among {len(state)} tensors, the first ones {list(state)[:3]}")
    return [layers.get(layer, {}) for layer in range(max(layers) + 1)]


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    shapes = getattr(state, "shapes", None)  # a LazyStateDict has shapes without reading tensors
    return tuple(shapes[name] if shapes is not None else state[name].shape)
