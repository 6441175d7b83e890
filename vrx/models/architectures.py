"""The architectures of transformers that vrx tunes: what it must know of each beyond what transformers tells.

`model.architecture` names a function of this module, after the checkpoint's `model_type`. The decoder, its layers, the
head and the id of the image token come from the model itself. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FULL = "full_attention"  # the kind of a decoder layer that looks at all tokens before
Config = Any  # of transformers, with `get_text_config()`


def _no_layers(config: Config) -> set[int]:
    return set()


def _layer_types(config: Config) -> list[str]:
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return list(kinds) if kinds and len(kinds) == text.num_hidden_layers else [FULL] * text.num_hidden_layers


def _nothing(model: Any, kept: Sequence[int]) -> None:
    return None


@dataclass(frozen=True)
class Architecture:
    """What transformers does not tell of a model.

    connector: paths of the modules or parameters that join tower and decoder, trained where `train.connector` is true.
    packing: how samples share one row: `plain`, by our attention within each sample; `masked`, by transformers' masks
    from the position ids; `padded`, not at all, as the model mixes what it reads in other ways than by attention, or
    its mask knows one prefix. eager: attention scores are capped, which only transformers' eager attention does.
    pinned: layers that cannot be cut without changing what the others compute. after_cut: mends what depends on the
    numbers of the layers; it gets the model and the numbers that the kept layers had. model_type: of the checkpoint,
    where it is not the row's name. kinds: of every decoder layer, by default transformers' `layer_types`.
    """

    connector: tuple[str, ...] = ("model.multi_modal_projector",)
    packing: Literal["plain", "masked", "padded"] = "plain"
    eager: bool = False
    pinned: Callable[[Config], set[int]] = _no_layers
    after_cut: Callable[[Any, Sequence[int]], None] = _nothing
    model_type: str | None = None
    kinds: Callable[[Config], list[str]] = _layer_types


def llava_hf() -> Architecture:
    """LLaVA-1.5 as llava-hf stores it: what this path computes is compared with the path of `llava`."""
    return Architecture(model_type="llava")


def qwen2_5_vl() -> Architecture:
    """Pictures of any size, positions of three axes (M-RoPE); the merger is a part of the tower."""
    return Architecture(("model.visual.merger",))


def qwen3_vl() -> Architecture:
    """As Qwen2.5-VL; features of several tower layers are added after the first decoder layers, by their number."""
    return Architecture(("model.visual.merger", "model.visual.deepstack_merger_list"), pinned=_deepstack_layers)


def _deepstack_layers(config: Config) -> set[int]:
    return set(range(len(config.vision_config.deepstack_visual_indexes)))
