"""A run's LVLM as a folder of transformers, or as one PEFT adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.data.conversations.processors import load_processor
from vrx.models.checkpoint_layouts import TOWER_RENAMES
from vrx.models.file_names import ADAPTER_WEIGHTS, MODEL_WEIGHTS, PROJECTOR_FILE, shard_index
from vrx.models.from_run import load_from_run
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.loading import greedy_settings, load_model_tokenizer
from vrx.models.lora_checkpoint import Adapter
from vrx.models.lvlm import DECODER, PROJECTOR, TOWER
from vrx.models.plain_processor import plain_processor, save_processor
from vrx.models.run_weights import RunWeights
from vrx.models.safetensors_stream import write_tensors
from vrx.models.saved_modules import WRAPPED
from vrx.runs.files import read_json, write_json
from vrx.runs.run_dir import RunDir

CLASS = "LlavaForConditionalGeneration"
HUB_NAMES = {  # name in memory -> as llava-hf's checkpoints have it, which other programs read
    PROJECTOR: "multi_modal_projector.",
    DECODER: "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}


def export_model(
    config: ModelConfig, run_dir: Path | None, folder: Path, *, dtype: torch.dtype, shard_bytes: int
) -> None:
    """Write merged weights, config, tokenizer, processor, chat template and generation settings into an empty folder.

    run_dir: None for the LVLM before tuning. Of a LLaVA or Bunny model one tensor is in memory at a time; of a
    model that is one checkpoint the whole model.
    """
    if not config.is_assembled:
        model = load_from_run(config, run_dir or folder, dtype=dtype)
        model.save_pretrained(folder, max_shard_size=shard_bytes)
        load_processor(config).save_pretrained(folder)
        return
    weights, tokenizer = RunWeights(config, run_dir, dtype=dtype), load_model_tokenizer(config)
    write_shards(weights, folder, dtype=dtype, shard_bytes=shard_bytes, image_processor=config.image_processor)
    lvlm_config = weights.lvlm_config
    lvlm_config.architectures, lvlm_config.dtype = [CLASS], dtype
    for part in (lvlm_config.get_text_config(), lvlm_config.vision_config):
        part.dtype = dtype  # type: ignore[union-attr]
        part._name_or_path = ""  # type: ignore[union-attr]  # a path of this machine
    lvlm_config.save_pretrained(folder)
    greedy_settings(config, tokenizer).save_pretrained(folder)
    save_processor(plain_processor(config, tokenizer, lvlm_config), folder)


def write_shards(
    weights: RunWeights, folder: Path, *, dtype: torch.dtype, shard_bytes: int, image_processor: str
) -> None:
    """Write tensors in files of at most `shard_bytes`, or of one larger tensor, and their index."""
    shards = list(_shards(weights.shapes, dtype.itemsize, shard_bytes))
    index: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        stem, _, suffix = MODEL_WEIGHTS[0].partition(".")
        file = MODEL_WEIGHTS[0] if len(shards) == 1 else f"{stem}-{number:05}-of-{len(shards):05}.{suffix}"
        hub_names = {hub_name(name, image_processor): name for name in names}
        shapes = {new: weights.shapes[name] for new, name in hub_names.items()}
        tensors = ((new, weights[name]) for new, name in hub_names.items())
        write_tensors(folder / file, shapes, tensors, dtype=dtype)
        index |= dict.fromkeys(hub_names, file)
    if len(shards) > 1:
        total = dtype.itemsize * sum(torch.Size(shape).numel() for shape in weights.shapes.values())
        write_json(shard_index(folder, MODEL_WEIGHTS[0]), {"metadata": {"total_size": total}, "weight_map": index})


def _shards(shapes: Mapping[str, tuple[int, ...]], element_size: int, shard_bytes: int) -> Iterator[list[str]]:
    """The names of each shard, in order."""
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        tensor_size = torch.Size(shape).numel() * element_size
        if names and size + tensor_size > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor_size
    yield names


def hub_name(name: str, image_processor: str) -> str:
    """The name of a tensor in a checkpoint of the hub; image_processor: the kind of the vision tower."""
    if name.startswith(TOWER):
        rest = name.removeprefix(TOWER)
        if image_processor != "dinov2":
            return f"vision_tower.vision_model.{rest}"
        for pattern, replacement in TOWER_RENAMES:
            rest = rest.replace(replacement, pattern.replace("\\", ""))
        return f"vision_tower.{rest}"
    old = next(prefix for prefix in HUB_NAMES if name.startswith(prefix))
    return HUB_NAMES[old] + name.removeprefix(old)


def export_adapter(config: ModelConfig, run_dir: Path, folder: Path) -> None:
    """Copy a run's adapter into an empty folder, with what was trained beside it in PEFT's own file.

    Runs of older versions keep the projector in a file of its own alone. `UserError` for a run without an adapter.
    """
    adapter = RunDir(run_dir).adapter
    if not adapter.is_dir():
        raise UserError(
            f"export.adapter=true: {run_dir} tuned no layers, so it has no adapter; valid is a fine-tuned run"
        )
    Adapter(adapter, is_native=not config.is_assembled)  # refuses a damaged one
    for name in ("adapter_config.json", ADAPTER_WEIGHTS[0]):
        shutil.copyfile(adapter / name, folder / name)
    settings = read_json(folder / "adapter_config.json")
    if not settings.get("modules_to_save") and config.is_assembled:
        projector = LazyStateDict(adapter, (PROJECTOR_FILE,))
        beside = {f"{WRAPPED}{PROJECTOR}{name}": tensor for name, tensor in projector.items()}
        path = folder / ADAPTER_WEIGHTS[0]
        save_file({**load_file(path), **beside}, path, metadata={"format": "pt"})
        settings["modules_to_save"] = [PROJECTOR.rstrip(".")]
    settings["base_model_name_or_path"] = None  # a path of this machine
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
