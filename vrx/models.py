"""LVLMs: one class for all of them, assembled from vision tower, projector and backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)

from vrx.config import ModelConfig
from vrx.paths import located
from vrx.prompts import get_template, load_tokenizer

TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}


def tokenizer_of(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, with the end and padding tokens its conversation template was trained with."""
    return load_tokenizer(located(config.tokenizer or config.backbone), config.template)


def image_token_id(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands in the input where an image's features go."""
    found = tokenizer.convert_tokens_to_ids(config.image_token)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise ValueError(f"model.image_token={config.image_token}: valid is a token of the backbone's vocabulary")
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
    """Assemble the LVLM that tuning starts from: backbone, tower and pre-trained projector, on the CPU.

    LLaVA-1.5 and Bunny are the same architecture: features of one tower layer, Linear-GELU-Linear into the embedding
    space, a decoder. The GELU is the exact one; the tanh variant shifts logits by 4e-4.
    """
    backbone = AutoModelForCausalLM.from_pretrained(located(config.backbone), dtype=dtype)
    tower = TOWERS[config.image_processor].from_pretrained(located(config.vision_tower), dtype=dtype)
    tokenizer = tokenizer_of(config)
    shape = LlavaConfig(
        vision_config=tower.config,
        text_config=backbone.config,
        image_token_index=image_token_id(config, tokenizer),
        projector_hidden_act="gelu",
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,  # type: ignore[arg-type]
        image_seq_length=config.num_image_tokens,
        tie_word_embeddings=backbone.config.tie_word_embeddings,
    )
    with torch.device("meta"):  # an empty shell: the parts bring their own weights
        model = LlavaForConditionalGeneration(shape)
    model.model.language_model = backbone.model
    model.lm_head = backbone.lm_head
    model.model.vision_tower = tower
    state = {name: tensor.to(dtype) for name, tensor in read_projector(Path(located(config.projector))).items()}
    _refuse_misfit(config, model.model.multi_modal_projector, state)
    model.model.multi_modal_projector.load_state_dict(state, assign=True)
    _check(config, model, len(tokenizer))
    end = tokenizer.convert_tokens_to_ids(get_template(config.template).end)
    model.generation_config = type(backbone.generation_config)(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.requires_grad_(False)
    return model.eval()


def read_projector(folder: Path) -> dict[str, torch.Tensor]:
    """The projector's tensors, named linear_1 and linear_2, from our file or from LLaVA's `mm_projector.bin`."""
    if (folder / "projector.safetensors").is_file():
        return load_file(folder / "projector.safetensors")
    if not (folder / "mm_projector.bin").is_file():
        raise FileNotFoundError(f"model.projector={folder}: holds neither projector.safetensors nor mm_projector.bin")
    tensors = torch.load(folder / "mm_projector.bin", map_location="cpu", weights_only=True)
    names = {"0": "linear_1", "2": "linear_2"}
    parts = {name.rpartition("mm_projector.")[2]: tensor for name, tensor in tensors.items()}
    return {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in parts.items() if name[0] in names}


def _refuse_misfit(config: ModelConfig, module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != given:
        raise ValueError(f"model.projector={config.projector}: has {given}, this tower and backbone need {wanted}")


def _check(config: ModelConfig, model: LlavaForConditionalGeneration, num_tokens: int) -> None:
    layers = len(decoder_layers(model))
    if layers != config.num_layers:
        raise ValueError(f"model.num_layers={config.num_layers}: {config.backbone} has {layers} decoder layers")
    rows = model.get_input_embeddings().weight.shape[0]
    if num_tokens > rows:
        raise ValueError(f"model.tokenizer={config.tokenizer}: {num_tokens} tokens, {config.backbone} embeds {rows}")
    meta = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not meta, f"parameters without weights: {meta}"
