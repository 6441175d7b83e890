"""Loading an LVLM and its tokenizer from the parts or the checkpoint that a configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, cast

import torch
from omegaconf import OmegaConf
from transformers import GenerationConfig, LlavaForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerBase

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.instructions.chat_templates import IMAGE_TAG, get_template
from vrx.data.tokenizers import load_tokenizer
from vrx.models.assemble import assemble
from vrx.models.checkpoint_layouts import LlavaOptions, is_lvlm, is_official
from vrx.models.file_names import TOKENIZERS
from vrx.models.fit import require_fit
from vrx.models.full_checkpoint import load_full_checkpoint
from vrx.models.lora_checkpoint import find_adapter, merge_adapter, require_same_backbone, tensors_beside_adapter
from vrx.models.lvlm import PROJECTOR, TOWER, decoder_layers
from vrx.models.native import load_native
from vrx.models.part_settings import require_obeyed_in
from vrx.models.projector_weights import read_projector
from vrx.runs.hub import resolve_checkpoint, split_revision

LOOKED_AT = 4096  # elements of each tensor of weights


def load_model_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with the end and padding tokens of its conversation template.

    Read from `model.tokenizer`, else from `model.lvlm` if that has a tokenizer, else from `model.backbone`.
    """
    if config.tokenizer is not None:
        return load_tokenizer(resolve_checkpoint("model.tokenizer", config.tokenizer, weights=False), config.template)
    if config.lvlm is not None:
        folder = resolve_checkpoint("model.lvlm", config.lvlm, weights=False)
        if any((folder / name).is_file() for name in TOKENIZERS):
            return load_tokenizer(folder, config.template)
    return load_tokenizer(resolve_checkpoint("model.backbone", config.backbone, weights=False), config.template)


def image_token_id(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token id of the positions that image features take."""
    name = config.image_token if config.image_token in tokenizer.get_vocab() else IMAGE_TAG  # as vrx export calls it
    token_id = tokenizer.convert_tokens_to_ids(name)
    if not isinstance(token_id, int) or token_id == tokenizer.unk_token_id:
        raise UserError(f"model.image_token={config.image_token}: must be a token of the tokenizer's vocabulary")
    return token_id


def llava_options(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaOptions:
    """The fields of LlavaConfig that the model configuration determines."""
    return {
        "image_token_index": image_token_id(config, tokenizer),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": cast(Literal["default", "full"], config.vision_feature_select_strategy),
        "image_seq_length": config.num_image_tokens,
    }


def greedy_settings(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Greedy generation that ends at the end token of the model's conversation template."""
    end = tokenizer.convert_tokens_to_ids(get_template(config.template).end)
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )


def load(
    config: ModelConfig,
    *,
    dtype: torch.dtype = torch.float32,
    projector_state: dict[str, torch.Tensor] | None = None,
    on_meta: bool = False,
) -> PreTrainedModel:
    """Load an LVLM on the CPU: from the checkpoint or run in `model.lvlm`, or assembled from its parts, before tuning.

    Another `model.architecture` than llava is a class of transformers, see `native.py`.

    LLaVA-1.5 and Bunny are the same architecture: features of one vision tower layer, Linear-GELU-Linear into the
    embedding space, a decoder. The GELU is the exact one; the tanh variant shifts logits by 4e-4. `UserError` for parts
    that do not fit together names the first tensors that are missing, unexpected or of another shape.
    projector_state: the projector's tensors, in place of `model.projector`. on_meta: check all files, but load no
    weights; the LVLM is of no use then.
    config: also the part `model` of a `config.yaml`, as OmegaConf reads it.
    """
    config = _typed(config)
    if not config.is_assembled:
        return load_native(config, dtype=dtype, on_meta=on_meta)
    tokenizer = load_model_tokenizer(config)
    options = llava_options(config, tokenizer)
    for key in ("vision_tower", *(() if config.lvlm else ("backbone",))):  # the small files alone
        resolve_checkpoint(f"model.{key}", getattr(config, key), weights=False)
    require_fit(config)
    if config.lvlm is None:
        if projector_state is None:
            folder = resolve_checkpoint("model.projector", config.projector)
            require_obeyed_in(folder, config, is_projector=True)
            projector_state = read_projector(folder)
        model = assemble(config, options, projector_state, dtype, on_meta=on_meta)
    else:
        folder = resolve_checkpoint("model.lvlm", config.lvlm)
        adapter = find_adapter(folder)
        if adapter is None:
            model = load_full_checkpoint(config, folder, options, dtype, on_meta=on_meta)
        else:
            model = _load_lora_output(config, folder, adapter, options=options, dtype=dtype, on_meta=on_meta)
        if is_official(folder) and not on_meta:  # as the official code does after loading
            model.resize_token_embeddings(len(tokenizer))
    _require_fit(config, model, 0 if on_meta else len(tokenizer))
    if not on_meta:
        _require_numbers(config, model)
    model.generation_config = greedy_settings(config, tokenizer)
    model.requires_grad_(False)
    return model.eval()


def _typed(config: ModelConfig | Any) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    return cast(ModelConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), config)))


def _load_lora_output(
    config: ModelConfig, folder: Path, adapter: Path, *, options: LlavaOptions, dtype: torch.dtype, on_meta: bool
) -> LlavaForConditionalGeneration:
    """The LVLM of a LoRA output or a run: its parts, the tensors tuned besides the adapter, and the merged adapter.

    `model.backbone` may also be a whole LVLM that was tuned further.
    """
    backbone = resolve_checkpoint("model.backbone", config.backbone, weights=False)
    require_same_backbone(folder, split_revision(config.backbone)[0], backbone)
    if adapter == folder:  # not of a run of ours
        require_obeyed_in(folder, config)
    tensors = tensors_beside_adapter(adapter, base_has_projector=is_lvlm(backbone))
    if is_lvlm(backbone):
        base = dataclasses.replace(config, lvlm=config.backbone)
        backbone = resolve_checkpoint("model.backbone", config.backbone)
        model = load_full_checkpoint(base, backbone, options, dtype, on_meta=on_meta)
        _replace_tensors(model, tensors, folder, on_meta=on_meta)
        merge_adapter(model, adapter, on_meta=on_meta)
        return model
    projector_state = {
        name.removeprefix(PROJECTOR): tensor for name, tensor in tensors.items() if name.startswith(PROJECTOR)
    }
    model = assemble(config, options, projector_state, dtype, on_meta=on_meta)
    towers = {name: tensor for name, tensor in tensors.items() if name.startswith(TOWER)}
    _replace_tensors(model, towers, folder, on_meta=on_meta)
    merge_adapter(model, adapter, on_meta=on_meta)
    return model


def _replace_tensors(
    model: LlavaForConditionalGeneration, tensors: dict[str, torch.Tensor], folder: Path, *, on_meta: bool
) -> None:
    """Copy tensors that were tuned besides an adapter into the model; `UserError` where one is of another shape."""
    weights = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name in weights and weights[name].shape != tensor.shape:
            raise UserError(f"{folder}: {name} is {tuple(tensor.shape)}, the base's {tuple(weights[name].shape)}")
    if not on_meta:
        model.load_state_dict(tensors, strict=False)


def _require_fit(config: ModelConfig, model: LlavaForConditionalGeneration, num_tokens: int) -> None:
    num_layers, weights = len(decoder_layers(model)), config.lvlm or config.backbone
    if num_layers != config.num_layers:
        raise UserError(f"model.num_layers={config.num_layers}: {weights} has {num_layers} decoder layers")
    embeddings = model.get_input_embeddings().weight
    rows = getattr(embeddings, "ds_shape", embeddings.shape)[0]  # ds_shape: if ZeRO-3 has partitioned it
    if num_tokens > rows:
        raise UserError(f"model.tokenizer={config.tokenizer}: has {num_tokens} tokens, {weights} has {rows} embeddings")


def _require_numbers(config: ModelConfig, model: LlavaForConditionalGeneration) -> None:
    """Refuse weights that were never loaded, or that are not numbers; of each tensor the beginning is looked at."""
    for name, tensor in model.named_parameters():
        assert not tensor.is_meta, f"a parameter without weights: {name}"
        if not tensor.detach().flatten()[:LOOKED_AT].isfinite().all():
            raise UserError(f"{config.lvlm or config.backbone}: {name} has weights that are infinite or no numbers")
