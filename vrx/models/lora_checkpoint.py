"""LoRA adapters on disk, ours and those of LLaVA and Bunny: saving, reading, merging into weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from vrx.config.errors import UserError
from vrx.config.frozen import read_yaml
from vrx.models.adapter_config import read_adapter_config, require_same_targets
from vrx.models.checkpoint_layouts import map_names, memory_name, summarize_names
from vrx.models.file_names import ADAPTER_WEIGHTS, OFFICIAL_BESIDE_ADAPTER, PROJECTOR_FILE
from vrx.models.lazy_state_dict import LazyStateDict, read_bin
from vrx.models.lvlm import PROJECTOR
from vrx.models.projector_weights import save_projector
from vrx.models.saved_modules import WRAPPED, add_saved_modules
from vrx.runs.files import read_json_object

TENSOR_NAME = re.compile(r"(.+)\.lora_(?:([AB])(?:\.default)?\.weight|(magnitude_vector)(?:\.default)?(?:\.weight)?)")
Part = Literal["A", "B", "magnitude_vector"]
SaveBeside = Callable[[dict[str, Tensor], Path], None]  # full tensors by name, an existing folder


class Adapter(Mapping[str, Tensor]):
    """A LoRA or DoRA adapter on disk: name in memory of each adapted weight -> its change.

    A change is scale x B A in fp32, (out, in), computed on access; `merge` applies it. shapes: of the adapted weights.
    is_native: of a model that is one checkpoint, whose names on disk are those in memory.
    """

    def __init__(self, folder: Path, *, is_native: bool = False) -> None:
        config = read_adapter_config(folder)
        self.folder, self._stored = folder, LazyStateDict(folder, ADAPTER_WEIGHTS)
        self.use_dora = bool(config.get("use_dora"))
        self.scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
        self._tensor_names: dict[str, dict[str, str]] = {}
        beside = _beside(folder, self._stored)
        modules: set[str] = set()
        for name in self._stored:
            if name in beside:
                continue
            match = TENSOR_NAME.fullmatch(name)
            name_of = native_name if is_native else memory_name
            weight = name_of(f"{match[1]}.weight") if match else None
            if match is None or weight is None:
                raise UserError(f"{folder}: {name} is not a LoRA tensor of a decoder layer")
            self._tensor_names.setdefault(weight, {})[match[2] or match[3]] = name
            modules.add(match[1].removeprefix(WRAPPED))
        parts = {"A", "B", "magnitude_vector"} if self.use_dora else {"A", "B"}
        incomplete = [name for name, tensors in self._tensor_names.items() if tensors.keys() != parts]
        if incomplete or not self._tensor_names:
            needed = ", ".join(f"lora_{part}" for part in sorted(parts))
            raise UserError(
                f"{folder}: an incomplete adapter, one of {needed} is missing for {summarize_names(incomplete)}"
            )
        require_same_targets(folder, config, modules)
        for name, tensors in self._tensor_names.items():
            shape_a, shape_b = (self._stored.shapes[tensors[part]] for part in ("A", "B"))
            if len(shape_a) != 2 or len(shape_b) != 2 or not shape_a[0] == shape_b[1] == config["r"]:
                raise UserError(
                    f"{folder}: {name} has tensors of shape {shape_a} and {shape_b}, not r={config['r']} as in "
                    "adapter_config.json; empty ones were saved under ZeRO-3 without being gathered"
                )
        self.shapes = {
            name: (self._stored.shapes[tensors["B"]][0], self._stored.shapes[tensors["A"]][1])
            for name, tensors in self._tensor_names.items()
        }

    def part(self, weight: str, part: Part) -> Tensor:
        """`A` (r, in), `B` (out, r) or `magnitude_vector` (out,) of a weight, as stored."""
        return self._stored[self._tensor_names[weight][part]]

    def merge(self, weight: str, tensor: Tensor) -> Tensor:
        """A weight with the adapter's change applied, (out, in) fp32.

        DoRA (Liu et al. 2024, eq. 5) scales each row of the sum to its trained magnitude.
        """
        merged = tensor.float() + self[weight].to(tensor.device)
        if not self.use_dora:
            return merged
        magnitude = self.part(weight, "magnitude_vector").float().to(tensor.device)
        return merged * (magnitude / torch.linalg.norm(merged, dim=1))[:, None]

    def require_fit(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise `UserError` if this adapter was not trained on a model with these shapes, by name in memory."""
        foreign = self.keys() - shapes.keys()
        if foreign:
            raise UserError(f"{self.folder}: an adapter for another base; this one has no {summarize_names(foreign)}")
        for name, shape in self.shapes.items():
            if shapes[name] != shape:
                mismatch = f"{name} is {shapes[name]}, the adapter's {shape}"
                raise UserError(f"{self.folder}: an adapter for another base: {mismatch}")

    def __getitem__(self, weight: str) -> Tensor:
        return self.scale * (self.part(weight, "B").float() @ self.part(weight, "A").float())

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensor_names)

    def __len__(self) -> int:
        return len(self._tensor_names)


def merge_adapter(model: PreTrainedModel, folder: Path, *, is_native: bool = False, on_meta: bool = False) -> None:
    """Merge an adapter into the weights of its base, in place; `UserError` for an adapter of another base."""
    adapter, weights = Adapter(folder, is_native=is_native), dict(model.named_parameters())
    adapter.require_fit({name: tuple(tensor.shape) for name, tensor in weights.items()})
    for name in () if on_meta else adapter:
        weights[name].data.copy_(adapter.merge(name, weights[name].data))


def native_name(name: str) -> str:
    """The name in memory of a tensor that PEFT saved."""
    return name.removeprefix(WRAPPED)


def save_adapter(
    model: peft.PeftModel, state: dict[str, Tensor], folder: Path, *, save_beside: SaveBeside = save_projector
) -> None:
    """Save the adapter in PEFT's own format and what was trained beside it, by default LLaVA's projector.

    What was trained beside it is also in PEFT's file, so that `PeftModel.from_pretrained` loads everything.
    state: full tensors by name in the LVLM or in the PEFT model; PEFT alone would silently skip names without its own
    prefix.
    """
    adapter = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items() if "lora_" in name}
    model.save_pretrained(str(folder), state_dict={f"{WRAPPED}{name}": tensor for name, tensor in adapter.items()})
    num_saved = len(load_file(folder / "adapter_model.safetensors"))
    assert num_saved == len(adapter) > 0, f"{num_saved} of {len(adapter)} tensors of the adapter were saved"
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()  # PEFT holds a set, whose order changes between runs
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    beside = {name: tensor for name, tensor in state.items() if "lora_" not in name}
    add_saved_modules(model, beside, folder)
    save_beside(beside, folder)


def _beside(folder: Path, names: Iterable[str]) -> set[str]:
    """The tensors of an adapter's file that are in the file of the projector or connector too."""
    if not (folder / PROJECTOR_FILE).is_file():
        return {name for name in names if (memory_name(name) or "").startswith(PROJECTOR)}
    beside = LazyStateDict(folder, (PROJECTOR_FILE,))
    full_names = {*beside, *(PROJECTOR + name for name in beside)}
    return {name for name in names if name.removeprefix(WRAPPED) in full_names}


def find_adapter(folder: Path) -> Path | None:
    """The folder of the adapter in a run directory or a LoRA output; None if there is none."""
    candidates = (folder / "adapter", folder)
    return next((candidate for candidate in candidates if (candidate / "adapter_config.json").is_file()), None)


def tensors_beside_adapter(folder: Path, *, base_has_projector: bool = False) -> dict[str, Tensor]:
    """Tensors tuned besides an adapter, by name in memory: the projector, and the tower if it was not frozen.

    base_has_projector: the base is a whole LVLM, whose projector may have been frozen.
    """
    if (folder / PROJECTOR_FILE).is_file():
        stored = LazyStateDict(folder, (PROJECTOR_FILE,))
        return {PROJECTOR + name: stored[name] for name in stored}
    path = folder / OFFICIAL_BESIDE_ADAPTER
    if not path.is_file() and base_has_projector:
        return {}
    if not path.is_file():
        adapter = LazyStateDict(folder, ADAPTER_WEIGHTS)
        if beside := _beside(folder, adapter):
            return {str(memory_name(name)): adapter[name] for name in sorted(beside)}
        raise UserError(f"{folder}: an adapter without its projector, {OFFICIAL_BESIDE_ADAPTER} is missing")
    tensors = read_bin(path)
    by_memory_name = {name: tensors[stored_name] for name, stored_name in map_names(tensors, path).items()}
    if not any(name.startswith(PROJECTOR) for name in by_memory_name) and not base_has_projector:
        raise UserError(f"{path}: holds no projector (model.mm_projector.…), only {summarize_names(tensors)}")
    return by_memory_name


def require_same_backbone(folder: Path, backbone: str, backbone_folder: Path) -> None:
    """Raise `UserError` for an adapter that was tuned on another backbone, even one of the same shapes.

    A run's `config.yaml` and PEFT's `adapter_config.json` name the backbone. Names are compared without owner, folders
    and punctuation, and the name in the backbone's own `config.json` is accepted too: folders get moved and renamed.
    """
    tuned_on, source = None, folder / "config.yaml"
    if source.is_file():
        content = read_yaml(source)
        model = content.get("model") if isinstance(content, dict) else None
        if not isinstance(model, dict) or not isinstance(model.get("backbone"), str):
            raise UserError(f"{source}: not the configuration of a run: has no model.backbone")
        tuned_on = model["backbone"]
    elif (source := folder / "adapter_config.json").is_file():
        tuned_on = read_json_object(source).get("base_model_name_or_path")
    own_names = [backbone, *re.split("/|--", str(backbone_folder.resolve()))]
    if (backbone_folder / "config.json").is_file():
        own_names.append(str(read_json_object(backbone_folder / "config.json").get("_name_or_path") or ""))
    if tuned_on and _plain(str(tuned_on)) not in map(_plain, own_names):
        raise UserError(f"model.backbone={backbone}: {folder} was tuned on {tuned_on}, see its {source.name}")


def _plain(name: str) -> str:
    """A name without owner, folders and punctuation; of a folder in the hub's cache that of its repository."""
    *folders, last = re.split(r"[/\\]", name.rstrip("/\\"))
    if folders[-1:] == ["snapshots"] and len(folders) > 1:
        last = folders[-2].rpartition("--")[2]
    return re.sub(r"[^a-z0-9]", "", last.lower())
