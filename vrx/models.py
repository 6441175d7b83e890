"""LVLMs: one class for all of them, assembled from vision tower, projector and backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)
from transformers.modeling_utils import set_zero3_state

from vrx import layouts
from vrx.config import ModelConfig
from vrx.layouts import PROJECTOR, TOWER, some
from vrx.paths import fetched
from vrx.prompts import get_template, load_tokenizer
from vrx.stored import Stored, read_bin

TOWERS = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}


def tokenizer_of(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, with the end and padding tokens its conversation template was trained with."""
    if config.tokenizer is not None:
        return load_tokenizer(fetched("model.tokenizer", config.tokenizer, weights=False), config.template)
    if config.lvlm is not None:
        folder = fetched("model.lvlm", config.lvlm, weights=False)
        if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            return load_tokenizer(folder, config.template)
    return load_tokenizer(fetched("model.backbone", config.backbone, weights=False), config.template)


def image_token_id(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands in the input where an image's features go."""
    found = tokenizer.convert_tokens_to_ids(config.image_token)
    if not isinstance(found, int) or found == tokenizer.unk_token_id:
        raise ValueError(f"model.image_token={config.image_token}: valid is a token of the tokenizer's vocabulary")
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
    options = _options(config, tokenizer)
    if config.lvlm is None:
        model = _assemble(config, options, read_projector(fetched("model.projector", config.projector)), dtype)
    else:
        folder = fetched("model.lvlm", config.lvlm)
        adapter = layouts.adapter_of(folder)
        if adapter is None:
            model = _load_whole(config, folder, options, dtype)
        else:
            layouts.refuse_other_base(folder, config.backbone)
            beside = layouts.beside_adapter(adapter)
            state = {name.removeprefix(PROJECTOR): tensor for name, tensor in beside.items() if PROJECTOR in name}
            model = _assemble(config, options, state, dtype)
            model.load_state_dict({name: tensor for name, tensor in beside.items() if TOWER in name}, strict=False)
            merge_adapter(model, adapter)
        if layouts.is_official(folder):  # their builders cut embeddings and head to the tokenizer, or fill them up
            model.resize_token_embeddings(len(tokenizer))
    _check(config, model, len(tokenizer))
    end = tokenizer.convert_tokens_to_ids(get_template(config.template).end)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.requires_grad_(False)
    return model.eval()


def _options(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "image_token_index": image_token_id(config, tokenizer),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "image_seq_length": config.num_image_tokens,
    }


def _part(classes: Any, key: str, name: str, dtype: torch.dtype, **options: Any) -> Any:
    """A backbone or a tower, whole: what from_pretrained would make up is refused."""
    folder = fetched(key, name)
    Stored(folder)  # refuses a damaged file by name
    try:
        part, told = classes.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, **options
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{key}={name}: {str(error).strip().splitlines()[0]}") from None
    wrong = told["missing_keys"] | {name for name, *_ in told["mismatched_keys"]}
    if wrong:
        raise ValueError(f"{key}={name}: missing or of another shape: {some(wrong)}")
    return part


def _tower(config: ModelConfig, dtype: torch.dtype) -> Any:
    """The tower without SigLIP's pooling head, as in Bunny: its output is not used, and ZeRO-3 cannot run it."""
    options = {"vision_use_head": False} if config.image_processor == "siglip" else {}
    return _part(TOWERS[config.image_processor], "model.vision_tower", config.vision_tower, dtype, **options)


def _assemble(
    config: ModelConfig, options: Mapping[str, Any], projector_state: dict[str, torch.Tensor], dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    backbone = _part(AutoModelForCausalLM, "model.backbone", config.backbone, dtype)
    tower = _tower(config, dtype)
    shape = LlavaConfig(
        vision_config=tower.config,
        text_config=backbone.config,
        tie_word_embeddings=backbone.config.tie_word_embeddings,
        **options,
    )
    # An empty shell: the parts bring their own weights. It is not shared out among ranks, even where they are.
    with torch.device("meta"), set_zero3_state():
        model = LlavaForConditionalGeneration(shape)
    model.model.language_model = backbone.model
    model.lm_head = backbone.lm_head
    model.model.vision_tower = tower
    state = {name: tensor.to(dtype, copy=True) for name, tensor in projector_state.items()}
    _refuse_misfit(config, model.model.multi_modal_projector, state)
    model.model.multi_modal_projector.load_state_dict(state, assign=True)
    return model


def _load_whole(
    config: ModelConfig, folder: Path, options: Mapping[str, Any], dtype: torch.dtype
) -> LlavaForConditionalGeneration:
    """A checkpoint of the whole LVLM, read tensor by tensor; the tower is `model.vision_tower` where none is inside.

    What lies behind the tower's feature layer is never used, and may be missing.
    """
    layouts.refuse_other(folder)
    stored = Stored(folder)
    names = layouts.named(stored, folder)
    tower_class = TOWERS[config.image_processor]
    told = (
        tower_class.config_class.from_pretrained(fetched("model.vision_tower", config.vision_tower, weights=False))
        if layouts.is_official(folder)
        else None
    )
    shape = layouts.shape_of(folder, told, options)
    if config.image_processor == "siglip":
        shape.vision_config.vision_use_head = False  # see _tower  # type: ignore[union-attr]
        names = {name: there for name, there in names.items() if not name.startswith(f"{TOWER}head.")}
    with init_empty_weights(include_buffers=False):
        model = LlavaForConditionalGeneration(shape)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shape.tie_word_embeddings:
        wanted.pop("lm_head.weight")
    lacking = wanted.keys() - names.keys()
    of_tower = {name for name in lacking if name.startswith(TOWER)}
    has_tower = any(name.startswith(TOWER) for name in names)
    missing = lacking - (_behind_features(of_tower, shape) if has_tower else of_tower)
    unexpected = names.keys() - wanted.keys() - {"lm_head.weight"}
    other = [name for name in names.keys() & wanted.keys() if stored.shapes[names[name]] != wanted[name]]
    for what, found in {"missing": missing, "unexpected": unexpected, "of another shape": other}.items():
        if found:
            raise ValueError(f"model.lvlm={config.lvlm}: incomplete or of another kind: {what} {some(found)}")
    state = {name: stored[there].to(dtype) for name, there in names.items() if name in wanted}
    if of_tower:
        state |= {name: value for name, value in _tower_state(config, dtype).items() if name in of_tower}
    model.load_state_dict(state, assign=True, strict=False)
    model.tie_weights()
    return model


def _tower_state(config: ModelConfig, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {TOWER + name: tensor for name, tensor in _tower(config, dtype).state_dict().items()}


def _behind_features(names: Iterable[str], shape: LlavaConfig) -> set[str]:
    """Those of a tower's tensors that its feature layer does not depend on."""
    tower: Any = shape.vision_config
    first = tower.num_hidden_layers + shape.vision_feature_layer + 1  # -2 of 24 layers: layer 23

    def unused(name: str) -> bool:
        layer = name.partition("encoder.layers.")[2].partition(".")[0]
        return int(layer) >= first if layer else name.startswith(f"{TOWER}post_layernorm.")

    return {name for name in names if unused(name)}


def merge_adapter(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Add an adapter's product to the weights it was trained beside, in place; one made for another base is refused."""
    stored, pairs, scale = layouts.adapter_tensors(folder)
    weights = dict(model.named_parameters())
    foreign = [name for name in pairs if name not in weights]
    if foreign:
        raise ValueError(f"{folder}: an adapter for another base, this one has no {some(foreign)}")
    for name, pair in pairs.items():
        a, b = stored.shapes[pair["A"]], stored.shapes[pair["B"]]
        if (b[0], a[1]) != tuple(weights[name].shape):
            wanted = f"{name} is {tuple(weights[name].shape)}, the adapter's {(b[0], a[1])}"
            raise ValueError(f"{folder}: an adapter for another base, {wanted}")
    for name, pair in pairs.items():
        product = stored[pair["B"]].float() @ stored[pair["A"]].float()
        weights[name].data.copy_(weights[name].data.float() + scale * product)


def read_projector(folder: Path) -> dict[str, torch.Tensor]:
    """The projector's tensors, named linear_1 and linear_2, from our file or from LLaVA's `mm_projector.bin`."""
    if (folder / "projector.safetensors").is_file():
        return load_file(folder / "projector.safetensors")
    if not (folder / "mm_projector.bin").is_file():
        raise FileNotFoundError(f"model.projector={folder}: holds neither projector.safetensors nor mm_projector.bin")
    names = {"0": "linear_1", "2": "linear_2"}
    tensors = read_bin(folder / "mm_projector.bin")
    parts = {name.rpartition("mm_projector.")[2]: tensor for name, tensor in tensors.items()}
    return {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in parts.items() if name[0] in names}


def _refuse_misfit(config: ModelConfig, module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != given:
        raise ValueError(
            f"model.projector={config.lvlm or config.projector}: has {given}, this tower and backbone need {wanted}"
        )


def _check(config: ModelConfig, model: LlavaForConditionalGeneration, num_tokens: int) -> None:
    layers, weights = len(decoder_layers(model)), config.lvlm or config.backbone
    if layers != config.num_layers:
        raise ValueError(f"model.num_layers={config.num_layers}: {weights} has {layers} decoder layers")
    embeddings = model.get_input_embeddings().weight
    rows = getattr(embeddings, "ds_shape", embeddings.shape)[0]  # ds_shape: where ZeRO-3 has shared it out
    if num_tokens > rows:
        raise ValueError(f"model.tokenizer={config.tokenizer}: {num_tokens} tokens, {weights} embeds {rows}")
    meta = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not meta, f"parameters without weights: {meta}"
