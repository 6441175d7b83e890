"""Loading an LVLM that is one checkpoint of a class of transformers, with a row of facts in `architectures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models.architectures import Architecture
from vrx.models.checkpoint_layouts import summarize_names
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.lora_checkpoint import merge_adapter
from vrx.models.lvlm import decoder_layers
from vrx.models.native_facts import architecture_of, require_architecture
from vrx.models.projector_weights import load_connector
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.tuned_checkpoint import tuned_checkpoint


def load_native(config: ModelConfig, *, dtype: torch.dtype = torch.float32, on_meta: bool = False) -> PreTrainedModel:
    """Load `model.lvlm` on the CPU, frozen, without code of its repository; on_meta: without its weights.

    Where it is the directory of a run, its adapter is merged into what that run tuned.
    `UserError` for a checkpoint of another architecture or depth, and for tensors that are missing or of another shape.
    """
    base, adapters = tuned_checkpoint(str(config.lvlm))
    folder = resolve_checkpoint("model.lvlm", base)
    model = load_folder(folder, architecture_of(config), dtype=dtype, config=config, on_meta=on_meta)
    depth = len(decoder_layers(model))
    if depth != config.num_layers:
        raise UserError(f"model.num_layers={config.num_layers}: {config.lvlm} has {depth} decoder layers")
    for adapter in adapters:
        merge_adapter(model, adapter, is_native=True, on_meta=on_meta)
        if not on_meta:
            load_connector(model, adapter)
    return model


def load_folder(
    folder: Path, row: Architecture, *, dtype: torch.dtype, config: ModelConfig, on_meta: bool = False
) -> PreTrainedModel:
    """Load the checkpoint in a folder, of any depth; otherwise as `load_native`."""
    require_architecture(folder, row, config)
    LazyStateDict(folder)  # raises UserError for a damaged file
    try:
        loader: Any = AutoModelForImageTextToText  # whose types do not know that it also gives what it loaded
        model, loading_info = loader.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            attn_implementation="eager" if row.eager else None,
            **({"device_map": "meta"} if on_meta else {}),
        )
    except Exception as error:  # of configurations and files of any kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"model.lvlm={config.lvlm}: cannot be loaded: {type(error).__name__}: {reason}") from None
    misfits = loading_info["missing_keys"] | {name for name, *_ in loading_info["mismatched_keys"]}
    if misfits:
        raise UserError(f"model.lvlm={config.lvlm}: missing or of another shape: {summarize_names(misfits)}")
    model.generation_config = _greedy(model.generation_config)
    model.requires_grad_(False)
    row.after_load(model)
    return model.eval()


def _greedy(stored: GenerationConfig | None) -> GenerationConfig:
    """The end and padding tokens of a checkpoint's own settings, without its sampling."""
    tokens = {key: getattr(stored, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**tokens, do_sample=False)
