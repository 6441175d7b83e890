"""Loading the LVLM of a run directory: tuned, with reverted or pruned layers, or unchanged."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import ModelConfig
from vrx.models.file_names import PROJECTOR_FILE
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.loading import load, merge_adapter
from vrx.models.lvlm import projector
from vrx.models.surgery import prune_layers, revert_layers
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery


def load_from_run(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The LVLM of a run, with adapters merged, on the CPU."""
    pruned = RunDir(run_dir).pruned
    if pruned.is_dir():
        return LlavaForConditionalGeneration.from_pretrained(pruned, dtype=dtype).eval()
    surgery = read_surgery(run_dir)
    lvlm = load_tuned(config, surgery.source, dtype=dtype)
    if surgery.reverted:
        revert_layers(lvlm, load_backbone(config), surgery.reverted)
    if surgery.pruned:
        prune_layers(lvlm, surgery.pruned)
    return lvlm


def load_tuned(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The LVLM with the adapter and projector of a run, or unchanged if the run has none."""
    lvlm = load(config, dtype=dtype)
    adapter = RunDir(run_dir).adapter
    return load_adapter(lvlm, adapter) if adapter.is_dir() else lvlm


def load_adapter(model: LlavaForConditionalGeneration, folder: Path) -> LlavaForConditionalGeneration:
    """Merge a saved adapter into the LVLM in place and load its projector; returns the same LVLM."""
    merge_adapter(model, folder)
    projector(model).load_state_dict(load_file(folder / PROJECTOR_FILE))
    return model


def load_backbone(config: ModelConfig) -> LazyStateDict:
    """The backbone's weights on disk; missing files of a hub id are downloaded."""
    return LazyStateDict(resolve_checkpoint("model.backbone", config.backbone))
