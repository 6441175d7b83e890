"""Access to the parts of an LVLM in memory. Every LVLM is a `LlavaForConditionalGeneration`.

LLaVA-1.5 and Bunny share that class: features of one vision tower layer, a Linear-GELU-Linear projector, a decoder. A
new model family starts from these five files:
1. `conf/model/<name>.yaml`: its parts, template, image tokens and number of layers;
2. this file: its decoder, projector and vision tower;
3. `vrx/models/loading.py`: how to load it, and `checkpoint_layouts.py` for tensor names of other layouts;
4. `vrx/data/chat_templates.py`: the text and the label mask of a conversation;
5. `vrx/data/image_processing.py`: the pixel values of its vision tower.
LoRA, reversion, pruning, probing and packing find the decoder through this file only. `training/loss.py` inserts image
features into the token embeddings by hand, which suits this class; a family with other position ids needs its own.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import LlavaForConditionalGeneration, PreTrainedModel

PROJECTOR, TOWER, DECODER = "model.multi_modal_projector.", "model.vision_tower.", "model.language_model."


def find_lvlm(model: nn.Module) -> LlavaForConditionalGeneration | None:
    """The LVLM inside wrappers such as PEFT's or ours; None if there is none."""
    return next((module for module in model.modules() if isinstance(module, LlavaForConditionalGeneration)), None)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of an LVLM, in order; `model` may be wrapped."""
    return _require_lvlm(model).model.language_model.layers


def projector(model: nn.Module) -> nn.Module:
    """The module that maps image features to the decoder's embedding space."""
    return _require_lvlm(model).model.multi_modal_projector


def decoder(model: PreTrainedModel) -> Any:
    """The decoder of an LVLM or of a plain backbone: the module that holds `layers`."""
    if isinstance(model, LlavaForConditionalGeneration):
        return model.model.language_model
    core = getattr(model, getattr(model, "base_model_prefix", ""), model)
    if not isinstance(getattr(core, "layers", None), nn.ModuleList):
        raise TypeError(f"{type(model).__name__}: valid are LlavaForConditionalGeneration and decoder-only backbones")
    return core


def _require_lvlm(model: nn.Module) -> LlavaForConditionalGeneration:
    lvlm = find_lvlm(model)
    if lvlm is None:
        raise TypeError(f"{type(model).__name__} contains no LlavaForConditionalGeneration")
    return lvlm
