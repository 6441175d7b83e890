"""The merged weights of a run's LLaVA or Bunny model, each tensor read and merged when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

from vrx.config.errors import UserError
from vrx.config.schema import ModelConfig
from vrx.models import checkpoint_layouts
from vrx.models.assemble import assembled_config
from vrx.models.checkpoint_layouts import is_official, map_names, memory_name, read_lvlm_config, summarize_names
from vrx.models.file_names import PROJECTOR_FILE
from vrx.models.full_checkpoint import HEAD, tower_config
from vrx.models.lazy_state_dict import LazyStateDict
from vrx.models.loading import llava_options, load_model_tokenizer
from vrx.models.lora_checkpoint import Adapter, find_adapter, require_same_backbone, tensors_beside_adapter
from vrx.models.lvlm import DECODER, PROJECTOR, TOWER
from vrx.models.projector_weights import read_projector
from vrx.models.surgery import prune_layers
from vrx.runs.hub import resolve_checkpoint, split_revision
from vrx.runs.run_dir import RunDir
from vrx.runs.surgery_manifest import read_surgery

LAYER = re.compile(rf"{re.escape(DECODER)}layers\.(\d+)\.(.+)")
VOCABULARY = (f"{DECODER}embed_tokens.weight", HEAD)


class RunWeights(Mapping[str, Tensor]):
    """Name in memory -> tensor, in `dtype`, of the LVLM that `load_from_run` would load, bit for bit.

    lvlm_config: of that LVLM. shapes: of all its tensors. Only one tensor is in memory at a time, beside the projector.
    `UserError` for parts that are missing or do not fit, as in loading.
    """

    def __init__(self, config: ModelConfig, run_dir: Path | None, *, dtype: torch.dtype) -> None:
        """run_dir: None for the LVLM before tuning."""
        self.dtype = dtype
        self._stored: dict[str, tuple[Mapping[str, Tensor], str]] = {}
        self._adapters: list[Adapter] = []
        self._backbone: dict[str, tuple[Mapping[str, Tensor], str]] = {}
        self._reverted: frozenset[int] = frozenset()
        pruned: tuple[int, ...] = ()
        if run_dir is not None and RunDir(run_dir).pruned.is_dir():
            folder = RunDir(run_dir).pruned
            self.lvlm_config = LlavaConfig.from_pretrained(folder)
            self._add_checkpoint(folder)
        else:
            self.lvlm_config = self._base(config)
            if run_dir is not None:
                surgery = read_surgery(run_dir)
                self._add_tuning(RunDir(surgery.source).adapter)
                self._reverted, pruned = frozenset(surgery.reverted), surgery.pruned
            if self._reverted:
                self._backbone = _located(_part("backbone", config.backbone))
        self._kept = [layer for layer in range(config.num_layers) if layer not in pruned]
        self.shapes = _shapes(self.lvlm_config, pruned)
        if any(name.startswith(TOWER) for name in self._missing()):  # a checkpoint without a tower, or a part of one
            self._add_missing_tower(config)
        if missing := self._missing():
            raise UserError(f"{run_dir or config.name}: missing {summarize_names(missing)}")

    def __getitem__(self, name: str) -> Tensor:
        old_name = self._old_name(name)
        layer = LAYER.fullmatch(old_name)
        if layer and int(layer[1]) in self._reverted:
            stored, stored_name = self._backbone[old_name]
            return stored[stored_name].to(self.dtype)
        stored, stored_name = self._stored[old_name]
        tensor = stored[stored_name].to(self.dtype)
        if name in VOCABULARY:
            tensor = tensor[: self.shapes[name][0]]
        for adapter in self._adapters:
            if old_name in adapter.shapes:
                tensor = adapter.merge(old_name, tensor).to(self.dtype)
        if tuple(tensor.shape) != self.shapes[name]:
            raise UserError(f"{stored_name}: has the shape {tuple(tensor.shape)}, the model's is {self.shapes[name]}")
        return tensor.contiguous()

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _missing(self) -> list[str]:
        return [name for name in self.shapes if self._old_name(name) not in self._stored]

    def _old_name(self, name: str) -> str:
        """The name before layers were pruned."""
        layer = LAYER.fullmatch(name)
        if not layer or int(layer[1]) >= len(self._kept):
            return name
        return f"{DECODER}layers.{self._kept[int(layer[1])]}.{layer[2]}"

    def _base(self, config: ModelConfig) -> LlavaConfig:
        """The LVLM before this run: its configuration; adds its tensors and adapters."""
        tokenizer = load_model_tokenizer(config)
        options = llava_options(config, tokenizer)
        folder = None if config.lvlm is None else resolve_checkpoint("model.lvlm", config.lvlm)
        adapter = None if folder is None else find_adapter(folder)
        if folder is not None and adapter is None:
            checkpoint_layouts.require_full_checkpoint(folder)
            tower = tower_config(config) if is_official(folder) else None
            lvlm_config = read_lvlm_config(folder, tower, options)
            self._add_checkpoint(folder)
        else:
            self._stored |= _located(_part("backbone", config.backbone))
            if folder is not None and adapter is not None:
                backbone = resolve_checkpoint("model.backbone", config.backbone, weights=False)
                require_same_backbone(folder, split_revision(config.backbone)[0], backbone)
                self._add_tensors(tensors_beside_adapter(adapter))
                self._adapters.append(Adapter(adapter))
            else:
                self._add_projector(read_projector(resolve_checkpoint("model.projector", config.projector)))
            lvlm_config = assembled_config(config, options)
        if config.image_processor == "siglip":
            lvlm_config.vision_config.vision_use_head = False  # type: ignore[union-attr]
        if folder is not None and is_official(folder):  # as the official code does after loading
            lvlm_config.get_text_config().vocab_size = len(tokenizer)
        return lvlm_config

    def _add_checkpoint(self, folder: Path) -> None:
        stored = LazyStateDict(folder)
        self._stored |= {name: (stored, stored_name) for name, stored_name in map_names(stored, folder).items()}

    def _add_missing_tower(self, config: ModelConfig) -> None:
        tower = _located(_part("vision_tower", config.vision_tower), prefix="vision_tower.")
        self._stored = {**tower, **self._stored}

    def _add_tuning(self, adapter: Path) -> None:
        if adapter.is_dir():
            self._adapters.append(Adapter(adapter))
            self._add_projector(LazyStateDict(adapter, (PROJECTOR_FILE,)))

    def _add_projector(self, state: Mapping[str, Tensor]) -> None:
        self._add_tensors({PROJECTOR + name: tensor for name, tensor in state.items()})

    def _add_tensors(self, state: Mapping[str, Tensor]) -> None:
        self._stored |= {name: (state, name) for name in state}


def _part(key: str, name: str) -> LazyStateDict:
    return LazyStateDict(resolve_checkpoint(f"model.{key}", name))


def _located(stored: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, tuple[Mapping[str, Tensor], str]]:
    """Name in memory -> where the tensor lies; tensors that no LVLM has, such as CLIP's text tower, lie nowhere."""
    names: Iterable[tuple[str | None, str]] = ((memory_name(prefix + name), name) for name in stored)
    return {name: (stored, stored_name) for name, stored_name in names if name is not None}


def _shapes(config: LlavaConfig, pruned: Iterable[int]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of an LVLM once some layers are cut, which the configuration then tells too."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    if pruned := tuple(pruned):
        prune_layers(model, pruned)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop(HEAD)
    return shapes
