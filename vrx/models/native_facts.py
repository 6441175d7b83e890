"""What is known of a checkpoint of transformers' own class before its weights are loaded, without torch.

Sizes are counted on a model without memory, by `native_counts.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrx.config.errors import UserError
from vrx.config.resolve import resolve_name
from vrx.config.schema import LoraConfig, ModelConfig, RunConfig
from vrx.models.architecture import Backbone, ParameterCounts, Tower, matches_target, parameter_counts
from vrx.models.architectures import Architecture
from vrx.runs.counted_model import counted
from vrx.runs.files import read_json_object
from vrx.runs.hub import cached_checkpoint
from vrx.runs.tuned_checkpoint import base_checkpoint

Linears = dict[str, tuple[int, int]]  # name within a layer -> (in, out)


@dataclass(frozen=True)
class NativeBackbone(Backbone):
    """A decoder whose layers may differ: sizes of a layer are means over them."""

    layers: tuple[Linears, ...] = ()
    total: int = 0

    @property
    def layer_parameters(self) -> int:
        return round(sum(inputs * outputs for layer in self.layers for inputs, outputs in layer.values()) / self._depth)

    @property
    def parameters(self) -> int:
        return self.total

    def lora_parameters(self, lora: LoraConfig) -> int:
        targets = lora.target_modules
        sizes = [
            lora.r * (inputs + outputs) + bool(lora.use_dora) * outputs
            for layer in self.layers
            for name, (inputs, outputs) in layer.items()
            if targets is None or matches_target(name, targets)
        ]
        return round(sum(sizes) / self._depth)

    @property
    def _depth(self) -> int:
        return max(1, len(self.layers))


@dataclass(frozen=True)
class NativeTower(Tower):
    """A vision tower by its counted parameters."""

    total: int = 0

    @property
    def parameters(self) -> int:
        return self.total


@dataclass(frozen=True)
class NativeCounts:
    """Parameters of an LVLM by kind, counted; as `architecture.ParameterCounts`.

    kinds: of every decoder layer, such as full_attention. connector: parameters that `train.connector` trains.
    embeddings: of the vocabulary, at the decoder's begin and, where they are not the same, at its end.
    """

    kinds: tuple[str, ...]
    backbone: NativeBackbone
    tower: NativeTower
    connector: int
    embeddings: int
    parameters: int
    trains_connector: bool = True

    @property
    def projector_parameters(self) -> int:
        return self.connector

    @property
    def by_kind(self) -> dict[str, int]:
        """Every parameter once, by where it is."""
        decoder = self.backbone.parameters - self.embeddings
        return {
            "tower": self.tower.parameters,
            "connector": self.connector,
            "decoder layers": decoder,
            "embeddings": self.embeddings,
        }

    def trainable_parameters(self, num_layers: int, lora: LoraConfig) -> int:
        """LoRA on `num_layers` decoder layers of mean size, and the connector where it is trained."""
        return num_layers * self.backbone.lora_parameters(lora) + self.connector * self.trains_connector


Counts = ParameterCounts | NativeCounts


def architecture_of(config: ModelConfig) -> Architecture:
    """The row of a model's architecture; `UserError` where there is none."""
    return resolve_name("architecture", config.architecture, key="model.architecture")()


def require_native(config: ModelConfig) -> None:
    """Refuse a checkpoint on this machine that is not of `model.architecture`: `UserError`."""
    folder = cached_checkpoint(base_checkpoint(str(config.lvlm)))
    if folder is not None:
        require_architecture(folder, architecture_of(config), config)


def require_architecture(folder: Path, row: Architecture, config: ModelConfig) -> dict[str, Any]:
    """The config.json of a checkpoint; `UserError` where it is not of `model.architecture`, or needs remote code."""
    if not (folder / "config.json").is_file():
        raise UserError(f"model.lvlm={config.lvlm}: has no config.json; valid is a checkpoint of transformers")
    settings = read_json_object(folder / "config.json")
    model_type, expected = settings.get("model_type"), row.model_type or config.architecture
    if model_type != expected:
        remote = "; it needs code of its repository, which is never run" if "auto_map" in settings else ""
        raise UserError(f"model.architecture={config.architecture}: {config.lvlm} is of type {model_type}{remote}")
    return settings


def native_counts(
    config: ModelConfig, cache: Path | None = None, *, trains_connector: bool = True
) -> NativeCounts | None:
    """The counts of a checkpoint; None where its config.json is not on this machine. cache: of `counted_model`."""
    counts = counted(config, cache)
    if counts is None:
        return None
    backbone, tower = dict(counts["backbone"]), counts["tower"]
    layers = tuple({name: (size[0], size[1]) for name, size in layer.items()} for layer in backbone.pop("layers"))
    return NativeCounts(
        tuple(counts["kinds"]),
        NativeBackbone(**backbone, layers=layers),
        NativeTower(**tower, num_patches=config.num_image_tokens),
        counts["connector"],
        counts["embeddings"],
        counts["parameters"],
        trains_connector,
    )


def counts_of(run: RunConfig) -> Counts | None:
    """The counts of a run's model, of either kind; None where its shapes are not known."""
    if run.model.is_assembled:
        return parameter_counts(run.model)
    return native_counts(run.model, run.runtime.output_path / "data", trains_connector=run.train.connector)
