"""Adapters on disk, LLaVA's and Bunny's LoRA output and our own: what they change, and what was tuned beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from torch import Tensor

from vrx.config.errors import UserError
from vrx.models.checkpoint_layouts import PROJECTOR, PROJECTOR_FILE, canonical, named, some
from vrx.models.lazy_state_dict import ADAPTER, LazyStateDict, read_bin
from vrx.runs.files import read_json

PLAIN = {"use_dora": False, "fan_in_fan_out": False, "rank_pattern": {}, "alpha_pattern": {}, "bias": "none"}


class Adapter(Mapping[str, Tensor]):
    """What a LoRA adapter adds to the weights it was trained beside, by their names in memory.

    A change is scale x B A in fp32, made when it is asked for; `shapes` are those of the weights.
    """

    def __init__(self, folder: Path) -> None:
        told = read_json(folder / "adapter_config.json")
        strange = [key for key, plain in PLAIN.items() if (told.get(key) or plain) != plain]
        if told.get("peft_type") != "LORA" or strange:
            raise UserError(
                f"{folder}/adapter_config.json: valid is plain LoRA, this is {told.get('peft_type')} {strange}"
            )
        self.folder, self._stored = folder, LazyStateDict(folder, ADAPTER)
        self._halves: dict[str, dict[str, str]] = {}
        for name in self._stored:
            match = re.fullmatch(r"(.+)\.lora_([AB])(\.default)?\.weight", name)
            weight = canonical(f"{match[1]}.weight") if match else None
            if match is None or weight is None:
                raise UserError(f"{folder}: {name} is no LoRA tensor of a decoder layer")
            self._halves.setdefault(weight, {})[match[2]] = name
        alone = [name for name, halves in self._halves.items() if len(halves) < 2]
        if alone or not self._halves:
            raise UserError(f"{folder}: an incomplete adapter, one of lora_A and lora_B is missing of {some(alone)}")
        self.scale = told["lora_alpha"] / (told["r"] ** 0.5 if told.get("use_rslora") else told["r"])
        shapes = {name: [self._stored.shapes[halves[key]] for key in "BA"] for name, halves in self._halves.items()}
        self.shapes = {name: (b[0], a[1]) for name, (b, a) in shapes.items()}

    def half(self, weight: str, which: str) -> Tensor:
        """`A` (r, in) or `B` (out, r) of a weight, as stored."""
        return self._stored[self._halves[weight][which]]

    def __getitem__(self, weight: str) -> Tensor:
        return self.scale * (self.half(weight, "B").float() @ self.half(weight, "A").float())

    def __iter__(self) -> Iterator[str]:
        return iter(self._halves)

    def __len__(self) -> int:
        return len(self._halves)

    def refuse_other(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse weights (their shapes by name in memory) that this adapter cannot have been trained beside."""
        foreign = self.keys() - shapes.keys()
        if foreign:
            raise UserError(f"{self.folder}: an adapter for another base, this one has no {some(foreign)}")
        for name, shape in self.shapes.items():
            if shapes[name] != shape:
                wanted = f"{name} is {shapes[name]}, the adapter's {shape}"
                raise UserError(f"{self.folder}: an adapter for another base, {wanted}")


def adapter_of(folder: Path) -> Path | None:
    """Where the adapter lies in a run's directory or in a LoRA output; None where the folder is neither."""
    return next((place for place in (folder / "adapter", folder) if (place / "adapter_config.json").is_file()), None)


def beside_adapter(folder: Path) -> dict[str, Tensor]:
    """What was tuned beside an adapter, by name in memory: the projector, and the tower where it was not frozen."""
    if (folder / PROJECTOR_FILE).is_file():
        stored = LazyStateDict(folder, (PROJECTOR_FILE,))
        return {PROJECTOR + name: stored[name] for name in stored}
    path = folder / "non_lora_trainables.bin"
    if not path.is_file():
        raise UserError(f"{folder}: an adapter without its projector, non_lora_trainables.bin is missing")
    tensors = read_bin(path)
    found = {name: tensors[there] for name, there in named(tensors, path).items()}
    if not any(name.startswith(PROJECTOR) for name in found):
        raise UserError(f"{path}: holds no projector (model.mm_projector.…), only {some(tensors)}")
    return found


def refuse_other_base(folder: Path, backbone: str, backbone_folder: Path) -> None:
    """Refuse what was tuned on another backbone, whose shapes may well be the same.

    A run's `config.yaml` and PEFT's `adapter_config.json` say on which. Compared are names, without owner, folders
    and punctuation, and the one in the backbone's own `config.json` counts too: people move and rename folders.
    """
    told, source = None, folder / "config.yaml"
    if source.is_file():
        told = yaml.safe_load(source.read_text(encoding="utf-8"))["model"]["backbone"]
    elif (source := folder / "adapter_config.json").is_file():
        told = read_json(source).get("base_model_name_or_path")
    own = [backbone, *re.split("/|--", str(backbone_folder.resolve()))]
    if (backbone_folder / "config.json").is_file():
        own.append(read_json(backbone_folder / "config.json").get("_name_or_path") or "")
    if told and _plain(told) not in map(_plain, own):
        raise UserError(f"model.backbone={backbone}: {folder} was tuned on {told}, see its {source.name}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rstrip("/").rpartition("/")[2].lower())
