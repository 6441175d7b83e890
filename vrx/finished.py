"""The LVLM of a run's directory, whatever was done to it: tuned, layers put back, layers cut out, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from vrx import lora
from vrx.answers import PRUNED, done_to
from vrx.config import ModelConfig
from vrx.paths import fetched
from vrx.stored import Stored
from vrx.surgery import prune_layers, revert_layers


def load(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The LVLM as the run left it, adapters merged, on the CPU."""
    if (run_dir / PRUNED).is_dir():
        return LlavaForConditionalGeneration.from_pretrained(run_dir / PRUNED, dtype=dtype).eval()
    done = done_to(run_dir)
    lvlm = lora.load_tuned(config, done.source, dtype=dtype)
    if done.reverted:
        revert_layers(lvlm, backbone(config), done.reverted)
    if done.pruned:
        prune_layers(lvlm, done.pruned)
    return lvlm


def backbone(config: ModelConfig) -> Stored:
    """The backbone's weights on disk; a hub id's files are downloaded where they are not there yet."""
    return Stored(fetched("model.backbone", config.backbone))
