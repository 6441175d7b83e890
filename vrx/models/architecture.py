"""Shapes of an LVLM's parts, and what follows from them alone: parameters, those that are trained, operations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from vrx.config.paths import PACKAGE
from vrx.config.schema import ModelConfig
from vrx.runs.files import read_json
from vrx.runs.hub import cached_checkpoint, split_revision


@cache
def official() -> dict[str, Any]:
    """What `vrx/official.yaml` holds."""
    return yaml.safe_load((PACKAGE / "models" / "architectures.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Backbone:
    hidden: int
    intermediate: int
    num_layers: int
    query: int  # width of all heads
    key_value: int
    vocabulary: int
    fused: bool  # one Linear for query, key and value, one for gate and up, as in Phi-3
    tied: bool

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of every Linear of a decoder layer."""
        h, i, q, kv = self.hidden, self.intermediate, self.query, self.key_value
        if self.fused:
            return [(h, q + 2 * kv), (q, h), (h, 2 * i), (i, h)]
        return [(h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h)]

    @property
    def layer_parameters(self) -> int:
        return sum(rows * columns for rows, columns in self.linears)

    @property
    def parameters(self) -> int:
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.num_layers * self.layer_parameters

    def lora_parameters(self, r: int) -> int:
        """Of one layer: r (in + out) for each Linear."""
        return sum(r * (rows + columns) for rows, columns in self.linears)


@dataclass(frozen=True)
class Tower:
    hidden: int
    intermediate: int
    num_layers: int
    num_patches: int

    @property
    def parameters(self) -> int:
        """Without embeddings and biases."""
        return self.num_layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)


@dataclass(frozen=True)
class ParameterCounts:
    """An LVLM; the projector is Linear-GELU-Linear with biases."""

    backbone: Backbone
    tower: Tower

    @property
    def projector_parameters(self) -> int:
        h = self.backbone.hidden
        return self.tower.hidden * h + h + h * h + h

    @property
    def parameters(self) -> int:
        return self.backbone.parameters + self.tower.parameters + self.projector_parameters

    def trainable_parameters(self, num_layers: int, r: int) -> int:
        """LoRA on `num_layers` decoder layers, and the projector."""
        return num_layers * self.backbone.lora_parameters(r) + self.projector_parameters


def parameter_counts(model: ModelConfig) -> ParameterCounts | None:
    """From each part's config.json where that is on this machine, else as published; None where neither is known."""
    text, vision = values(model.backbone, "text_config"), values(model.vision_tower, "vision_config")
    return None if text is None or vision is None else from_values(text, vision)


def from_values(text: dict[str, Any], vision: dict[str, Any]) -> ParameterCounts:
    """From what the config.json of a backbone and of a tower say."""
    heads = text["num_attention_heads"]
    width = text.get("head_dim") or text["hidden_size"] // heads
    backbone = Backbone(
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        num_layers=text["num_hidden_layers"],
        query=heads * width,
        key_value=(text.get("num_key_value_heads") or heads) * width,
        vocabulary=text["vocab_size"],
        fused=text["model_type"] in ("phi3", "bunny-phi3"),
        tied=bool(text.get("tie_word_embeddings")),
    )
    side = vision["image_size"] // vision["patch_size"]
    sizes = (vision[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return ParameterCounts(backbone, Tower(*sizes, num_patches=side * side))


def values(name: str, part: str) -> dict[str, Any] | None:
    """What the config.json of a part says, from this machine or as published; `part` is its place in an LVLM's."""
    folder = cached_checkpoint(name)
    if folder is not None and (folder / "config.json").is_file():
        found = read_json(folder / "config.json")
        return {**found, **found.get(part, {})}
    return official()["parts"].get(split_revision(name)[0])
