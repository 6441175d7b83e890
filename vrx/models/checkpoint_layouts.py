"""Checkpoint layouts: the contents of a folder, and the name in memory of each of its tensors.

Known are the original LLaVA and Bunny (`model.layers`, `model.mm_projector`, with or without the vision tower),
llava-hf before and since transformers 4.52, and the output of `save_pretrained`. `lora_checkpoint` reads adapters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlavaConfig, Phi3Config, PreTrainedConfig

from vrx.config.errors import UserError
from vrx.models.lazy_state_dict import WEIGHTS
from vrx.models.lvlm import DECODER, PROJECTOR, TOWER
from vrx.runs.files import read_json

RENAMES = [  # checkpoint -> memory; the first match counts
    (r"model\.mm_projector\.0\.", f"{PROJECTOR}linear_1."),
    (r"model\.mm_projector\.2\.", f"{PROJECTOR}linear_2."),
    (r"(model\.)?multi_modal_projector\.", PROJECTOR),
    (r"(model\.)?(vision_tower\.)+(vision_model\.)?", TOWER),
    (r"language_model\.lm_head\.", "lm_head."),
    (r"language_model\.model\.|model\.language_model\.", DECODER),
    (r"model\.(?=(embed_tokens|layers|norm)\.)", DECODER),
    (r"lm_head\.", "lm_head."),
]
DERIVED = re.compile(r".*(rotary_emb\.inv_freq|position_ids)")  # buffers that old checkpoints hold and models compute
BACKBONES: dict[str, type[PreTrainedConfig]] = {  # model_type of the official repositories -> their backbone's
    "llava": LlamaConfig,
    "llava_llama": LlamaConfig,
    "bunny-llama": LlamaConfig,
    "bunny-phi3": Phi3Config,
}
OLD_KEYS = {"rope_theta", "rope_scaling"}  # transformers 5 reads them, and keeps them under another name
PROJECTOR_FILE = "projector.safetensors"  # beside an adapter of ours


def memory_name(name: str) -> str | None:
    """The name in memory (transformers 5) of a checkpoint's tensor; None for a tensor that no layout has."""
    name = name.removeprefix("base_model.model.")  # PEFT's wrapping
    for pattern, replacement in RENAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return None


def map_names(names: Iterable[str], source: Path) -> dict[str, str]:
    """Name in memory -> name in the checkpoint `source`; tensors that no layout has are refused."""
    stored_names = [name for name in names if not DERIVED.fullmatch(name)]
    unexpected = [name for name in stored_names if memory_name(name) is None]
    if unexpected:
        raise UserError(f"{source}: no LVLM in a known layout: unexpected {summarize_names(unexpected)}")
    return {str(memory_name(name)): name for name in stored_names}


def summarize_names(names: Iterable[str]) -> str:
    """The first three names, and the number of all where there are more."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" … ({len(ordered)} tensors)" if len(ordered) > 3 else "")


def require_full_checkpoint(folder: Path) -> None:
    """Refuse a folder that holds no LVLM, and name its contents where they are known."""
    if any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in WEIGHTS):
        if not (folder / "config.json").is_file():
            raise UserError(f"model.lvlm={folder}: has weights but no config.json")
        return
    if (folder / "mm_projector.bin").is_file() or (folder / PROJECTOR_FILE).is_file():
        raise UserError(f"model.lvlm={folder}: holds a projector alone; that is what model.projector takes")
    if (folder / "config.yaml").is_file():
        raise UserError(f"model.lvlm={folder}: a run without adapter/, not tuned or not finished")
    raise UserError(
        f"model.lvlm={folder}: unknown layout; valid holds {' or '.join(WEIGHTS)} (whole or in shards) and "
        "config.json, or adapter_config.json, or is the directory of a finished run"
    )


def is_official(folder: Path) -> bool:
    """Whether a checkpoint or LoRA output was written by LLaVA's or Bunny's own code."""
    return (folder / "config.json").is_file() and "text_config" not in read_json(folder / "config.json")


def read_lvlm_config(folder: Path, tower: PreTrainedConfig | None, options: Mapping[str, Any]) -> LlavaConfig:
    """The configuration of a checkpoint's LVLM, read as JSON: code from a repository is never run.

    `tower` is the vision tower's configuration for a checkpoint without one; `options` are fields of LlavaConfig.
    """
    config = read_json(folder / "config.json")
    layer = config.get("mm_vision_select_layer", config.get("vision_feature_layer", options["vision_feature_layer"]))
    if layer != options["vision_feature_layer"]:
        raise UserError(f"model.vision_feature_layer={options['vision_feature_layer']}: {folder} was made with {layer}")
    if "text_config" in config:
        try:
            return LlavaConfig.from_dict({**config, **options})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{folder / 'config.json'}: no configuration of an LVLM: {error}") from None
    kind = config.get("model_type")
    if kind not in BACKBONES:
        raise UserError(f"model.lvlm={folder}: model_type={kind}; known are {', '.join(BACKBONES)}")
    known = (BACKBONES[kind]().to_dict().keys() | OLD_KEYS) - {"model_type", "architectures", "_name_or_path", "dtype"}
    backbone = BACKBONES[kind].from_dict({key: value for key, value in config.items() if key in known})
    assert tower is not None
    return LlavaConfig(
        vision_config=tower, text_config=backbone, tie_word_embeddings=backbone.tie_word_embeddings, **options
    )
