"""Checkpoint layouts: what a folder holds, and the name that each of its tensors has in the LVLM in memory.

Known are the original LLaVA and Bunny (`model.layers`, `model.mm_projector`, the tower inside or not), llava-hf before
and since transformers 4.52, and what `save_pretrained` writes. Adapters are in `vrx/adapters.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlavaConfig, Phi3Config, PreTrainedConfig

from vrx.config.errors import UserError
from vrx.models.lazy_state_dict import WEIGHTS
from vrx.runs.files import read_json

PROJECTOR, TOWER, DECODER = "model.multi_modal_projector.", "model.vision_tower.", "model.language_model."
RENAMES = [  # the first that matches counts
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


def canonical(name: str) -> str | None:
    """The name in memory (transformers 5) of a checkpoint's tensor; None where no layout has such a tensor."""
    name = name.removeprefix("base_model.model.")  # PEFT's wrapping
    for pattern, replacement in RENAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return None


def named(names: Iterable[str], where: Path) -> dict[str, str]:
    """Name in memory -> name in the checkpoint; a checkpoint with tensors that no layout has is refused."""
    kept = [name for name in names if not DERIVED.fullmatch(name)]
    unexpected = [name for name in kept if canonical(name) is None]
    if unexpected:
        raise UserError(f"{where}: no LVLM in a known layout: unexpected {some(unexpected)}")
    return {str(canonical(name)): name for name in kept}


def some(names: Iterable[str]) -> str:
    """The first few of many names, and how many there are."""
    found = sorted(names)
    return ", ".join(found[:3]) + (f" … ({len(found)} tensors)" if len(found) > 3 else "")


def refuse_other(folder: Path) -> None:
    """Refuse a folder that holds no LVLM, with what it holds instead where that is known."""
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


def shape_of(folder: Path, tower: PreTrainedConfig | None, options: Mapping[str, Any]) -> LlavaConfig:
    """The configuration of a checkpoint's LVLM, read as JSON: code that a repository brings along is not run.

    `tower` is the configuration for a checkpoint that tells none; `options` are fields of LlavaConfig.
    """
    told = read_json(folder / "config.json")
    layer = told.get("mm_vision_select_layer", told.get("vision_feature_layer", options["vision_feature_layer"]))
    if layer != options["vision_feature_layer"]:
        raise UserError(f"model.vision_feature_layer={options['vision_feature_layer']}: {folder} was made with {layer}")
    if "text_config" in told:
        try:
            return LlavaConfig.from_dict({**told, **options})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{folder / 'config.json'}: no configuration of an LVLM: {error}") from None
    kind = told.get("model_type")
    if kind not in BACKBONES:
        raise UserError(f"model.lvlm={folder}: model_type={kind}; known are {', '.join(BACKBONES)}")
    known = (BACKBONES[kind]().to_dict().keys() | OLD_KEYS) - {"model_type", "architectures", "_name_or_path", "dtype"}
    backbone = BACKBONES[kind].from_dict({key: value for key, value in told.items() if key in known})
    assert tower is not None
    return LlavaConfig(
        vision_config=tower, text_config=backbone, tie_word_embeddings=backbone.tie_word_embeddings, **options
    )
