"""`python -m vrx.models.native_counts <folder> <architecture>`: sizes of a checkpoint, counted without its weights.

The model is made on torch's meta device, where tensors have shapes and no memory. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from vrx.config.resolve import resolve_name
from vrx.models.architectures import Architecture
from vrx.models.lvlm import connector, decoder, decoder_layers

WITHOUT_ATTENTION = ("linear_attention", "conv")  # kinds of layers whose cost does not grow with the square


def counted(folder: Path, architecture: str) -> str:
    """What `native_facts.native_counts` reads, as JSON."""
    row: Architecture = resolve_name("architecture", architecture)()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config)
    text = config.get_text_config()
    layers = [_linears(layer) for layer in decoder_layers(model)]
    kinds = row.kinds(config)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    key_value_heads = getattr(text, "num_key_value_heads", None) or heads
    attending = sum(kind not in WITHOUT_ATTENTION for kind in kinds) / len(kinds)
    head = model.get_output_embeddings().weight
    vocabulary = {id(tensor): tensor for tensor in (model.get_input_embeddings().weight, head)}
    of_decoder = {id(tensor): tensor for tensor in (*decoder(model).parameters(), head)}
    of_connector = list(connector(model, row.connector).values())
    apart = of_decoder.keys() | {id(tensor) for tensor in of_connector}
    of_tower = [tensor for tensor in model.parameters() if id(tensor) not in apart]
    tower = model.get_encoder(modality="image").config
    facts = {
        "kinds": kinds,
        "backbone": {
            "hidden": text.hidden_size,
            "intermediate": getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            "num_layers": len(layers),
            "query": round(heads * width * attending),
            "key_value": key_value_heads * width,
            "vocabulary": head.shape[0],
            "fused": False,
            "tied": len(vocabulary) == 1,
            "layers": layers,
            "total": _size(of_decoder.values()),
        },
        "tower": {
            "hidden": tower.hidden_size,
            "intermediate": getattr(tower, "intermediate_size", None) or 4 * tower.hidden_size,
            "num_layers": getattr(tower, "num_hidden_layers", None) or getattr(tower, "depth", 0),
            "total": _size(of_tower),
        },
        "connector": _size(of_connector),
        "embeddings": _size(vocabulary.values()),
        "parameters": _size(model.parameters()),
    }
    return json.dumps(facts)


def _linears(layer: nn.Module) -> dict[str, tuple[int, int]]:
    return {
        name: (module.in_features, module.out_features)
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    }


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def main() -> None:
    """Print the sizes of the checkpoint that the arguments name."""
    print(counted(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main()
