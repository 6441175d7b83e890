"""Sizes of an LVLM's parts, and the parameter counts that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict

import yaml

from vrx.config.errors import UserError
from vrx.config.paths import PACKAGE
from vrx.config.schema import LoraConfig, ModelConfig
from vrx.models.part_settings import BACKBONE_SIZES, TOWER_SIZES, require_sizes, with_defaults
from vrx.runs.files import read_json_object
from vrx.runs.hub import cached_checkpoint, split_revision


class PublishedFacts(TypedDict):
    """What is known without a download.

    parts: config.json by hub id. instructions: `command` and number of `conversations` by conversation template.
    images: source of each folder below `instructions.image_folder`. tera_operations: dense bf16 TFLOP/s by GPU name.
    """

    parts: dict[str, dict[str, Any]]
    instructions: dict[str, dict[str, Any]]
    images: dict[str, str]
    tera_operations: dict[str, float]


@cache
def published_facts() -> PublishedFacts:
    """The contents of `architectures.yaml`."""
    return yaml.safe_load((PACKAGE / "models" / "architectures.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Backbone:
    """Sizes of a decoder-only language model."""

    hidden: int
    intermediate: int
    num_layers: int
    query: int  # width of all heads
    key_value: int
    vocabulary: int
    fused: bool  # one Linear for query, key and value, one for gate and up, as in Phi-3
    tied: bool

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Name and (in, out) of every Linear of a decoder layer."""
        h, i, q, kv = self.hidden, self.intermediate, self.query, self.key_value
        if self.fused:
            attention = {"self_attn.qkv_proj": (h, q + 2 * kv), "self_attn.o_proj": (q, h)}
            return {**attention, "mlp.gate_up_proj": (h, 2 * i), "mlp.down_proj": (i, h)}
        attention = {"q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h)}
        mlp = {"gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h)}
        return {f"self_attn.{name}": size for name, size in attention.items()} | {
            f"mlp.{name}": size for name, size in mlp.items()
        }

    @property
    def layer_parameters(self) -> int:
        """Parameters of all Linear modules of one decoder layer."""
        return sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def parameters(self) -> int:
        """Embeddings, head and the Linear modules of all layers."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.num_layers * self.layer_parameters

    def lora_parameters(self, lora: LoraConfig) -> int:
        """Adapter parameters of one layer: r (in + out) per Linear with an adapter, with DoRA `out` magnitudes more."""
        targets = lora.target_modules
        adapted = [size for name, size in self.linears.items() if targets is None or matches_target(name, targets)]
        return sum(lora.r * (inputs + outputs) + bool(lora.use_dora) * outputs for inputs, outputs in adapted)


@dataclass(frozen=True)
class Tower:
    """Sizes of a vision tower."""

    hidden: int
    intermediate: int
    num_layers: int
    num_patches: int

    @property
    def parameters(self) -> int:
        """Parameters without embeddings and biases."""
        return self.num_layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)


@dataclass(frozen=True)
class ParameterCounts:
    """Parameter counts of an LVLM; the projector is Linear-GELU-Linear with biases."""

    backbone: Backbone
    tower: Tower

    @property
    def projector_parameters(self) -> int:
        h = self.backbone.hidden
        return self.tower.hidden * h + h + h * h + h

    @property
    def parameters(self) -> int:
        return self.backbone.parameters + self.tower.parameters + self.projector_parameters

    def trainable_parameters(self, num_layers: int, lora: LoraConfig) -> int:
        """LoRA on `num_layers` decoder layers, and the projector."""
        return num_layers * self.backbone.lora_parameters(lora) + self.projector_parameters


def matches_target(name: str, targets: Sequence[str]) -> bool:
    """Whether a module's name ends with one of the targets, as in PEFT's `target_modules`."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def parameter_counts(model: ModelConfig) -> ParameterCounts | None:
    """Counts from the config.json of each part on this machine, else as published; None where neither is known."""
    text, vision = part_config(model.backbone, "text_config"), part_config(model.vision_tower, "vision_config")
    if text is None or vision is None:
        return None
    return counts_from_configs(text, vision, num_patches=model.num_image_tokens)


def counts_from_configs(text: dict[str, Any], vision: dict[str, Any], *, num_patches: int) -> ParameterCounts:
    """Counts from the config.json of a backbone and of a vision tower; num_patches: of an image, `num_image_tokens`."""
    heads = text["num_attention_heads"]
    width = text.get("head_dim") or text["hidden_size"] // heads
    backbone = Backbone(
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        num_layers=text["num_hidden_layers"],
        query=heads * width,
        key_value=(text.get("num_key_value_heads") or heads) * width,
        vocabulary=text["vocab_size"],
        fused=text.get("model_type") in ("phi3", "bunny-phi3"),
        tied=bool(text.get("tie_word_embeddings")),
    )
    tower = Tower(vision["hidden_size"], _tower_intermediate(vision), vision["num_hidden_layers"], num_patches)
    return ParameterCounts(backbone, tower)


def _tower_intermediate(vision: dict[str, Any]) -> int:
    """The width of a tower's MLP of two matrices; DINOv2's SwiGLU has three of a smaller width."""
    if "intermediate_size" in vision:
        return vision["intermediate_size"]
    width = int(vision["hidden_size"] * vision["mlp_ratio"])
    if not vision.get("use_swiglu_ffn"):
        return width
    gated = (int(width * 2 / 3) + 7) // 8 * 8
    return gated * 3 // 2


def part_config(name: str, key: str) -> dict[str, Any] | None:
    """The config.json of a part, from this machine or as published; `key` is its key in the config.json of an LVLM."""
    folder = cached_checkpoint(name)
    if folder is not None and (folder / "config.json").is_file():
        path = folder / "config.json"
        config = read_json_object(path)
        if not isinstance(config.get(key, {}), dict):
            raise UserError(f"{path}: {key} must be a JSON object")
        config = with_defaults({**config, **config.get(key, {})})
        require_sizes(config, BACKBONE_SIZES if key == "text_config" else TOWER_SIZES, path)
        return config
    return published_facts()["parts"].get(split_revision(name)[0])
