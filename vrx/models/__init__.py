"""LVLMs: loading from any layout, LoRA on chosen layers, reverting, pruning, probing."""

from typing import Any

_HOMES = {
    "load": "loading",
    "decoder_layers": "lvlm",
    "projector": "lvlm",
    "apply_lora": "lora",
    "revert_layers": "surgery",
    "prune_layers": "surgery",
}


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for: the driver uses this package without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
