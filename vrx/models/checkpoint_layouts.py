"""Layouts of full checkpoints: the files of a folder and the names of their tensors.

Known layouts are the original LLaVA and Bunny ones (`model.layers`, `model.mm_projector`, with or without the vision
tower), llava-hf before and since transformers 4.52, and the output of `save_pretrained`. `lora_checkpoint` reads
adapters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypedDict

from transformers import LlamaConfig, LlavaConfig, Phi3Config, PreTrainedConfig

from vrx.config.errors import UserError
from vrx.models.file_names import MODEL_WEIGHTS, OFFICIAL_PROJECTOR, PROJECTOR_FILE, shard_index
from vrx.models.lvlm import DECODER, PROJECTOR, TOWER
from vrx.runs.files import read_json_object

RENAMES = [  # checkpoint -> memory; the first match applies
    (r"model\.mm_projector\.0\.", f"{PROJECTOR}linear_1."),
    (r"model\.mm_projector\.2\.", f"{PROJECTOR}linear_2."),
    (r"(model\.)?multi_modal_projector\.", PROJECTOR),
    (r"(model\.)?(vision_tower\.)+(vision_model\.)?", TOWER),
    (r"language_model\.lm_head\.", "lm_head."),
    (r"language_model\.model\.|model\.language_model\.", DECODER),
    (r"model\.(?=(embed_tokens|layers|norm)\.)", DECODER),
    (r"lm_head\.", "lm_head."),
]
TOWER_RENAMES = [  # of DINOv2, whose saved names differ from those in memory; all that match apply
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
]
DERIVED = re.compile(r".*(rotary_emb\.inv_freq|position_ids)")  # buffers in old checkpoints that models compute
BACKBONES: dict[str, type[PreTrainedConfig]] = {  # official model_type -> backbone's configuration
    "llava": LlamaConfig,
    "llava_llama": LlamaConfig,
    "bunny-llama": LlamaConfig,
    "bunny-phi3": Phi3Config,
}
OLD_KEYS = {"rope_theta", "rope_scaling"}  # transformers 5 reads these keys and stores them under another name


class LlavaOptions(TypedDict):
    """Fields of LlavaConfig that the model configuration determines."""

    image_token_index: int
    projector_hidden_act: str
    vision_feature_layer: int
    vision_feature_select_strategy: Literal["default", "full"]
    image_seq_length: int


def memory_name(name: str) -> str | None:
    """The name in memory (transformers 5) of a checkpoint's tensor; None if no layout has such a tensor."""
    name = name.removeprefix("base_model.model.")  # prefix of PEFT
    for pattern, replacement in RENAMES:
        if re.match(pattern, name):
            name = re.sub(pattern, replacement, name, count=1)
            return _tower_name(name) if name.startswith(TOWER) else name
    return None


def _tower_name(name: str) -> str:
    for pattern, replacement in TOWER_RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def map_names(names: Iterable[str], source: Path) -> dict[str, str]:
    """Name in memory -> name in the checkpoint `source`; `UserError` for tensors that no layout has."""
    stored_names = [name for name in names if not DERIVED.fullmatch(name)]
    unexpected = [name for name in stored_names if memory_name(name) is None]
    if unexpected:
        raise UserError(f"{source}: not an LVLM in a known layout: unexpected {summarize_names(unexpected)}")
    return {str(memory_name(name)): name for name in stored_names}


def summarize_names(names: Iterable[str]) -> str:
    """The first three names, followed by the total number if there are more."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" … ({len(ordered)} tensors)" if len(ordered) > 3 else "")


def require_full_checkpoint(folder: Path) -> None:
    """Raise `UserError` for a folder without an LVLM, naming its contents if they are known."""
    if any((folder / name).is_file() or shard_index(folder, name).is_file() for name in MODEL_WEIGHTS):
        if not (folder / "config.json").is_file():
            raise UserError(f"model.lvlm={folder}: has weights but no config.json")
        return
    if (folder / OFFICIAL_PROJECTOR).is_file() or (folder / PROJECTOR_FILE).is_file():
        raise UserError(f"model.lvlm={folder}: holds only a projector; pass it as model.projector")
    if (folder / "config.yaml").is_file():
        raise UserError(f"model.lvlm={folder}: a run without adapter/: not a fine-tuning run, or unfinished")
    raise UserError(
        f"model.lvlm={folder}: unknown layout; valid is a folder with {' or '.join(MODEL_WEIGHTS)} (one file or "
        "shards) and config.json, a folder with adapter_config.json, or the directory of a finished run"
    )


def is_official(folder: Path) -> bool:
    """Whether a checkpoint or LoRA output was written by LLaVA's or Bunny's own code."""
    return (folder / "config.json").is_file() and "text_config" not in read_json_object(folder / "config.json")


def is_lvlm(folder: Path) -> bool:
    """Whether a folder is that of a whole LVLM, by its config.json, not that of a backbone."""
    if not (folder / "config.json").is_file():
        return False
    config = read_json_object(folder / "config.json")
    return "text_config" in config or config.get("model_type") in BACKBONES


def read_lvlm_config(folder: Path, tower: PreTrainedConfig | None, options: LlavaOptions) -> LlavaConfig:
    """The configuration of a checkpoint's LVLM, read as JSON: code from a repository is never run.

    tower: the vision tower's configuration, for a checkpoint without one.
    """
    config, model_type = _lvlm_settings(folder, options)
    if "text_config" in config:
        try:
            return LlavaConfig.from_dict({**config, **options})
        except Exception as error:  # its checks raise many kinds
            raise _not_a_configuration(folder, error) from None
    if model_type not in BACKBONES:
        raise UserError(f"model.lvlm={folder}: model_type={model_type}; valid are {', '.join(BACKBONES)}")
    known_keys = (BACKBONES[model_type]().to_dict().keys() | OLD_KEYS) - {
        "model_type",
        "architectures",
        "_name_or_path",
        "dtype",
    }
    try:
        backbone = BACKBONES[model_type].from_dict({key: value for key, value in config.items() if key in known_keys})
    except Exception as error:
        raise _not_a_configuration(folder, error) from None
    assert tower is not None
    return LlavaConfig(
        vision_config=tower, text_config=backbone, tie_word_embeddings=backbone.tie_word_embeddings, **options
    )


def _lvlm_settings(folder: Path, options: LlavaOptions) -> tuple[dict[str, Any], str | None]:
    """`config.json` of an LVLM and its model_type; `UserError` where it was made with other options."""
    config = read_json_object(folder / "config.json")
    made_with = {
        "vision_feature_layer": config.get("mm_vision_select_layer", config.get("vision_feature_layer")),
        "vision_feature_select_strategy": config.get("vision_feature_select_strategy"),
    }
    for key, value in made_with.items():
        if value is not None and value != options[key]:
            raise UserError(f"model.{key}={options[key]}: {folder} was made with {value}")
    if config.get("projector_hidden_act", "gelu") != "gelu":
        raise UserError(
            f"{folder / 'config.json'}: projector_hidden_act={config['projector_hidden_act']}: valid is gelu"
        )
    model_type = config.get("model_type")
    if "text_config" in config and model_type not in ("llava", None):
        raise UserError(f"model.lvlm={folder}: model_type={model_type}; valid are {', '.join(BACKBONES)}")
    return config, model_type


def _not_a_configuration(folder: Path, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{folder / 'config.json'}: not the configuration of an LVLM: {reason}")
