"""LVLMs: one class for all of them, loaded from what a configuration names, and where things are in it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig, LlavaForConditionalGeneration, PreTrainedTokenizerBase

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.chat_templates import get_template
from vrx.data.tokenizers import load_tokenizer
from vrx.models import checkpoint_layouts
from vrx.models.assemble import assemble, read_projector
from vrx.models.checkpoint_layouts import PROJECTOR, TOWER
from vrx.models.full_checkpoint import read_whole
from vrx.models.lora_checkpoint import Adapter, adapter_of, beside_adapter, refuse_other_base
from vrx.runs.hub import resolve_checkpoint, split_revision


def tokenizer_of(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, with the end and padding tokens its conversation template was trained with."""
    if config.tokenizer is not None:
        return load_tokenizer(resolve_checkpoint("model.tokenizer", config.tokenizer, weights=False), config.template)
    if config.lvlm is not None:
        folder = resolve_checkpoint("model.lvlm", config.lvlm, weights=False)
        if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            return load_tokenizer(folder, config.template)
    return load_tokenizer(resolve_checkpoint("model.backbone", config.backbone, weights=False), config.template)


def image_token_id(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands in the input where an image's features go."""
    found = tokenizer.convert_tokens_to_ids(config.image_token)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise UserError(f"model.image_token={config.image_token}: valid is a token of the tokenizer's vocabulary")
    return found


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of the backbone, in order; wrappers such as PEFT's are looked through."""
    return _lvlm(model).model.language_model.layers


def projector(model: nn.Module) -> nn.Module:
    """The module that takes image features into the backbone's embedding space."""
    return _lvlm(model).model.multi_modal_projector


def _lvlm(model: nn.Module) -> LlavaForConditionalGeneration:
    found = next((module for module in model.modules() if isinstance(module, LlavaForConditionalGeneration)), None)
    if found is None:
        raise TypeError(f"{type(model).__name__} holds no LlavaForConditionalGeneration")
    return found


def load(config: ModelConfig, *, dtype: torch.dtype = torch.float32) -> LlavaForConditionalGeneration:
    """The LVLM on the CPU: assembled from its parts, as tuning starts from, or a finished one where `lvlm` names it.

    LLaVA-1.5 and Bunny are the same architecture: features of one tower layer, Linear-GELU-Linear into the embedding
    space, a decoder. The GELU is the exact one; the tanh variant shifts logits by 4e-4. What does not fit together is
    refused with the names of the first tensors that are missing, unexpected or of another shape.
    """
    tokenizer = tokenizer_of(config)
    options = {
        "image_token_index": image_token_id(config, tokenizer),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "image_seq_length": config.num_image_tokens,
    }
    if config.lvlm is None:
        model = assemble(
            config, options, read_projector(resolve_checkpoint("model.projector", config.projector)), dtype
        )
    else:
        folder = resolve_checkpoint("model.lvlm", config.lvlm)
        adapter = adapter_of(folder)
        if adapter is None:
            model = read_whole(config, folder, options, dtype)
        else:
            refuse_other_base(
                folder,
                split_revision(config.backbone)[0],
                resolve_checkpoint("model.backbone", config.backbone, weights=False),
            )
            beside = beside_adapter(adapter)
            state = {name.removeprefix(PROJECTOR): tensor for name, tensor in beside.items() if PROJECTOR in name}
            model = assemble(config, options, state, dtype)
            model.load_state_dict({name: tensor for name, tensor in beside.items() if TOWER in name}, strict=False)
            merge_adapter(model, adapter)
        if checkpoint_layouts.is_official(
            folder
        ):  # their builders cut embeddings and head to the tokenizer, or fill them up
            model.resize_token_embeddings(len(tokenizer))
    _check(config, model, len(tokenizer))
    end = tokenizer.convert_tokens_to_ids(get_template(config.template).end)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.requires_grad_(False)
    return model.eval()


def merge_adapter(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Add an adapter's changes to the weights it was trained beside, in place; one made for another base is refused."""
    adapter, weights = Adapter(folder), dict(model.named_parameters())
    adapter.refuse_other({name: tuple(tensor.shape) for name, tensor in weights.items()})
    for name in adapter:
        weights[name].data.copy_(adapter.merge(name, weights[name].data))


def _check(config: ModelConfig, model: LlavaForConditionalGeneration, num_tokens: int) -> None:
    layers, weights = len(decoder_layers(model)), config.lvlm or config.backbone
    if layers != config.num_layers:
        raise UserError(f"model.num_layers={config.num_layers}: {weights} has {layers} decoder layers")
    embeddings = model.get_input_embeddings().weight
    rows = getattr(embeddings, "ds_shape", embeddings.shape)[0]  # ds_shape: where ZeRO-3 has shared it out
    if num_tokens > rows:
        raise UserError(f"model.tokenizer={config.tokenizer}: {num_tokens} tokens, {weights} embeds {rows}")
    meta = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not meta, f"parameters without weights: {meta}"
