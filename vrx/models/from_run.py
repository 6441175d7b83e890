"""Loading the LVLM of a run directory: tuned, with reverted or pruned layers, or unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models.file_names import PROJECTOR_FILE
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.loading import load
from vrx.models.lora_checkpoint import merge_adapter
from vrx.models.lvlm import projector
from vrx.models.native import load_folder, load_native
from vrx.models.native_facts import architecture_of
from vrx.models.projector_weights import load_connector
from vrx.models.surgery import prune_layers, revert_layers
from vrx.runs.hub import resolve_checkpoint
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery


def load_from_run(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The LVLM of a run, with adapters merged, on the CPU."""
    pruned = RunDir(run_dir).pruned
    if pruned.is_dir():
        if not config.is_assembled:
            return load_folder(pruned, architecture_of(config), dtype=dtype, config=config)
        return LlavaForConditionalGeneration.from_pretrained(pruned, dtype=dtype).eval()
    surgery = read_surgery(run_dir)
    lvlm = load_tuned(config, surgery.source, dtype=dtype)
    if surgery.reverted:
        revert_layers(lvlm, load_backbone(config), surgery.reverted)
    if surgery.pruned:
        prune_layers(lvlm, surgery.pruned, None if config.is_assembled else architecture_of(config))
    return lvlm


def load_tuned(config: ModelConfig, run_dir: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The LVLM with the adapter and projector of a run, or unchanged if the run has none."""
    lvlm = load(config, dtype=dtype)
    adapter = RunDir(run_dir).adapter
    if not adapter.is_dir():
        return lvlm
    if config.is_assembled:
        return load_adapter(lvlm, adapter)
    merge_adapter(lvlm, adapter, is_native=True)
    load_connector(lvlm, adapter)
    return lvlm


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Merge a saved adapter into the LVLM in place and load its projector; returns the same LVLM."""
    merge_adapter(model, folder)
    stored, own = LazyStateDict(folder, (PROJECTOR_FILE,)), projector(model)
    if stored.shapes != {name: tuple(tensor.shape) for name, tensor in own.state_dict().items()}:
        raise UserError(f"{folder / PROJECTOR_FILE}: not the projector of this model, but {stored.shapes}"[:400])
    own.load_state_dict(dict(stored))
    return model


def load_backbone(config: ModelConfig) -> Mapping[str, Tensor]:
    """The weights that reversion puts back: the backbone's on disk; missing files of a hub id are downloaded.

    Of a model that is one checkpoint they are those before tuning, in memory.
    """
    if not config.is_assembled:
        return load_native(config).state_dict()
    return LazyStateDict(resolve_checkpoint("model.backbone", config.backbone))
