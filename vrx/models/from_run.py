"""The LVLM of a run's directory, whatever was done to it: tuned, layers put back, layers cut out, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from vrx.config.schema import ModelConfig
from vrx.models import lora
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.surgery import prune_layers, revert_layers
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery


def load_from_run(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The LVLM as the run left it, adapters merged, on the CPU."""
    pruned = RunDir(run_dir).pruned
    if pruned.is_dir():
        return LlavaForConditionalGeneration.from_pretrained(pruned, dtype=dtype).eval()
    done = read_surgery(run_dir)
    lvlm = lora.load_tuned(config, done.source, dtype=dtype)
    if done.reverted:
        revert_layers(lvlm, load_backbone(config), done.reverted)
    if done.pruned:
        prune_layers(lvlm, done.pruned)
    return lvlm


def load_backbone(config: ModelConfig) -> LazyStateDict:
    """The backbone's weights on disk; a hub id's files are downloaded where they are not there yet."""
    return LazyStateDict(resolve_checkpoint("model.backbone", config.backbone))
