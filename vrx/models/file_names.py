"""Names of the files in a model's folder.

Weights may also be sharded: `<name>.index.json` then maps each tensor to its file.
"""

from __future__ import annotations

from pathlib import Path

from vrx.config.errors import UserError
from vrx.runs.files import read_json_object

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


def indexed_files(index: Path) -> list[str]:
    """The shards that an index names, sorted; none without an index. `UserError` for an index of another form."""
    if not index.is_file():
        return []
    names = read_json_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index}: damaged, has no weight_map of tensors and files; download it again")
    return sorted(set(names.values()))


def shard_index(folder: Path, name: str) -> Path:
    """The file that maps each tensor of sharded weights to its shard; it need not exist."""
    return folder / f"{name}.index.json"
