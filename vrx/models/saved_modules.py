"""What was trained beside an adapter, inside PEFT's own file: whole modules, which `PeftModel` loads by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vrx.models.file_names import ADAPTER_WEIGHTS
from vrx.models.lvlm import find_lvlm

WRAPPED = "base_model.model."  # PEFT's prefix to the names of the model that it wraps


def add_saved_modules(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Add trained tensors to a saved adapter, as PEFT's `modules_to_save`.

    state: full tensors by name in the LVLM or in the PEFT model. Without tensors, and where some belong to no module
    that was trained as a whole, the adapter stays as it is: PEFT can then not load them.
    """
    tensors = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items()}
    modules = whole_modules(model, tensors)
    if not modules:
        return
    path = folder / ADAPTER_WEIGHTS[0]
    added = {WRAPPED + name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file({**load_file(path), **added}, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["modules_to_save"] = modules
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))


def whole_modules(model: nn.Module, names: Iterable[str]) -> list[str]:
    """The paths of the outermost modules of an LVLM whose tensors are exactly these; none where there are no such."""
    lvlm, names = find_lvlm(model), set(names)
    assert lvlm is not None
    modules: list[str] = []
    for path, module in lvlm.named_modules():
        tensors = {f"{path}.{name}" for name in module.state_dict()}
        if tensors and tensors <= names and not any(path.startswith(f"{outer}.") for outer in modules):
            modules.append(path)
    covered = {name for name in names if any(name.startswith(f"{path}.") for path in modules)}
    return modules if covered == names else []
