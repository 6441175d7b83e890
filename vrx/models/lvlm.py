"""Access to the parts of an LVLM in memory, whatever its class.

Two kinds are loaded: LLaVA-1.5 and Bunny, assembled from parts (`assemble.py`), and one checkpoint of a class of
transformers (`native.py`), with a row of facts in `architectures.py`. Both are classes of transformers, which tell
where their decoder is. LoRA, reversion, pruning, probing and packing find the decoder through this file only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from vrx.data.batch import MicroBatch
from vrx.data.instructions.encoding import IGNORE

PROJECTOR, TOWER, DECODER = "model.multi_modal_projector.", "model.vision_tower.", "model.language_model."  # of LLaVA
PREFIX_MODELS = ("paligemma",)
WITHOUT_PICTURE_TOKENS = ("mllama",)  # whose pictures are not among the tokens of the text


def find_lvlm(model: nn.Module) -> PreTrainedModel | None:
    """The LVLM inside wrappers such as PEFT's or ours; None if there is none."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of an LVLM, in order; `model` may be wrapped."""
    return decoder(_require_lvlm(model)).layers


def layers_path(model: nn.Module) -> str:
    """The dotted path of the decoder layers within the LVLM, such as `model.language_model.layers`."""
    lvlm = _require_lvlm(model)
    layers = decoder_layers(lvlm)
    return next(name for name, module in lvlm.named_modules() if module is layers)


def projector(model: nn.Module) -> nn.Module:
    """The module of LLaVA and Bunny that maps image features to the decoder's embedding space."""
    core: Any = _require_lvlm(model).model
    return core.multi_modal_projector


def connector(model: nn.Module, paths: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters of an LVLM at the paths of modules or parameters, by full name within the LVLM."""
    lvlm = _require_lvlm(model)
    parameters = {
        name: parameter
        for name, parameter in lvlm.named_parameters()
        if any(f"{name}.".startswith(f"{path}.") for path in paths)
    }
    missing = [path for path in paths if not any(f"{name}.".startswith(f"{path}.") for name in parameters)]
    if missing:
        raise TypeError(f"{type(lvlm).__name__} has no {', '.join(missing)}")
    return parameters


def decoder(model: PreTrainedModel) -> Any:
    """The decoder of an LVLM or of a plain backbone: the module that holds `layers`."""
    core = model.get_decoder() if isinstance(model, PreTrainedModel) else None
    if not isinstance(getattr(core, "layers", None), nn.ModuleList):
        raise TypeError(f"{type(model).__name__}: valid are LVLMs and decoder-only backbones of transformers")
    return core


def forward_inputs(model: PreTrainedModel, batch: MicroBatch) -> dict[str, Tensor]:
    """The arguments of a forward pass over a padded micro-batch, on the model's device and in its dtype."""
    assert batch.attention_mask is not None, "the micro-batch must be padded, not packed"
    inputs = {
        "input_ids": batch.input_ids.to(model.device),
        "attention_mask": batch.attention_mask.to(model.device),
    }
    if batch.pixels is not None:
        inputs["pixel_values"] = batch.pixels.to(model.device, model.dtype)
    return {**inputs, **model_tensors(model, batch.tensors)}


def model_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a processor gives beside the ids, on the model's device, numbers with a point in its dtype."""
    return {
        name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }


def answers_after_prefix(model: PreTrainedModel, tensors: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """The types of the tokens for a model whose prompt sees itself as a whole: what is learned comes after the prompt.

    labels: (batch, length). Without this, an answer would see its own end. Empty for every other model.
    """
    if model.config.model_type not in PREFIX_MODELS or "token_type_ids" not in tensors:
        return {}
    begun = (labels != IGNORE).cumsum(1) > 0
    return {"token_type_ids": begun.to(tensors["token_type_ids"].dtype)}


def _require_lvlm(model: nn.Module) -> PreTrainedModel:
    lvlm = find_lvlm(model)
    if lvlm is None:
        raise TypeError(f"{type(model).__name__} contains no model of transformers")
    return lvlm
