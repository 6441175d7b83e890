"""A model's files, looked at without loading them: which are missing, and which are cut short."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vrx.config.paths import resolve_path
from vrx.config.schema import ModelConfig
from vrx.models.architecture import on_this_machine
from vrx.runs.files import read_json

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
PROJECTORS = ("projector.safetensors", "mm_projector.bin")
BESIDE_ADAPTER = ("projector.safetensors", "non_lora_trainables.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Finding:
    """One line of the check; `bad` stops a run, anything else is only told."""

    name: str
    told: str
    bad: bool = False

    def __str__(self) -> str:
        return f"{'BAD' if self.bad else 'ok ':<4} {self.name}: {self.told}"


def weights(model: ModelConfig) -> Iterator[Finding]:
    """Every part of the model: on this machine, whole, and in a layout that is read."""
    wanted: list[tuple[str, tuple[tuple[str, ...], ...]]]
    wanted = [("vision_tower", (WEIGHTS, ("config.json",), ("preprocessor_config.json",)))]
    backbone = ("backbone", (WEIGHTS, ("config.json",)))
    if model.lvlm is None:
        wanted += [backbone, ("projector", (PROJECTORS,))]
    elif _is_adapter(on_this_machine(model.lvlm)):
        wanted += [backbone, ("lvlm", (WEIGHTS, BESIDE_ADAPTER))]
    else:
        wanted.append(("lvlm", (WEIGHTS,)))
    wanted.append((_tokenizer_key(model), (TOKENIZERS,)))
    for key, files in wanted:
        name = getattr(model, key)
        title = "tokenizer" if files == (TOKENIZERS,) else f"model.{key}"
        folder, download = on_this_machine(name), f"hf download {name} --exclude '*/*'"
        if folder is None:
            yield Finding(title, f"{name} is not on this machine; run: {download}", bad=True)
            continue
        why = next(filter(None, (_incomplete(folder, names) for names in files)), None)
        why = f"{why}; run: {download}" if why and not Path(resolve_path(name)).is_dir() else why
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
        yield Finding(title, f"{name}: {why}" if why else f"{name}, {size:.3g} GB", bad=why is not None)


def _is_adapter(folder: Path | None) -> bool:
    """Whether a folder is a LoRA output or a run that was tuned: it needs its backbone beside it."""
    places = [folder, folder / "adapter"] if folder else []
    return any((place / "adapter_config.json").is_file() for place in places)


def _tokenizer_key(model: ModelConfig) -> str:
    """Where the tokenizer is taken from: a finished LVLM need not bring one."""
    if model.tokenizer is not None or model.lvlm is None:
        return "backbone" if model.tokenizer is None else "tokenizer"
    folder = on_this_machine(model.lvlm)
    return "lvlm" if folder is None or any((folder / name).is_file() for name in TOKENIZERS) else "backbone"


def _incomplete(folder: Path, names: tuple[str, ...]) -> str | None:
    """What is wrong with a folder that should hold one of these files, whole or in shards."""
    folder = folder / "adapter" if (folder / "adapter").is_dir() else folder  # of a finished run
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = sorted(set(read_json(index)["weight_map"].values()))
        elif (folder / name).is_file():
            files = [name]
        else:
            continue
        missing = [file for file in files if not (folder / file).is_file()]
        if missing:
            return f"{len(missing)} of {len(files)} shards missing, the first {missing[0]}"
        cut = next((file for file in files if _is_cut(folder / file)), None)
        return f"{cut} is cut short; delete it and get it again" if cut else None
    return f"holds no {' or '.join(names)}"


def _is_cut(path: Path) -> bool:
    """Whether a file is shorter than its header says, or a JSON file none; of `.bin` files zip archives have an end."""
    try:
        if path.suffix == ".json":
            read_json(path)  # `UserError` where it is none
        if path.suffix == ".bin":
            with path.open("rb") as file:
                return file.read(2) in (b"", b"PK") and not zipfile.is_zipfile(path)
        if path.suffix != ".safetensors":
            return path.stat().st_size == 0
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size != 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return True
