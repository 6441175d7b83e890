"""Names of the files in a model's folder.

Weights may also be sharded: `<name>.index.json` then maps each tensor to its file.
"""

from __future__ import annotations

from pathlib import Path

# Alternatives, in the order in which they are preferred.
MODEL_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")

# The projector as vrx saves it, alone or with an adapter.
PROJECTOR_FILE = "projector.safetensors"

# The projector in the pretraining output of LLaVA and Bunny.
OFFICIAL_PROJECTOR = "mm_projector.bin"

# The tensors tuned besides the adapter in the LoRA output of LLaVA and Bunny, the projector among them.
OFFICIAL_BESIDE_ADAPTER = "non_lora_trainables.bin"


def shard_index(folder: Path, name: str) -> Path:
    """The file that maps each tensor of sharded weights to its shard; it need not exist."""
    return folder / f"{name}.index.json"
