"""The tensors of a checkpoint folder, each read from disk on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.runs.files import read_json

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")


class LazyStateDict(Mapping[str, Tensor]):
    """The tensors of a checkpoint folder by name, each read from disk on access and not cached.

    Reads safetensors or, where there are none, `.bin` files (mapped into memory, without code in them), in one file or
    in shards with an index. `shapes` knows the tensors' shapes without reading them. A file that is missing or damaged
    is refused by name.
    """

    def __init__(self, folder: Path, names: Sequence[str] = WEIGHTS) -> None:
        found = next((name for name in names if _shards(folder, name)), None)
        if found is None:
            raise UserError(f"{folder}: holds neither {' nor '.join(names)}, whole or in shards")
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file: dict[str, Path] = {}
        for path in _shards(folder, found):
            told = _shapes(path)
            self.shapes |= told
            self._file |= dict.fromkeys(told, path)

    def __getitem__(self, name: str) -> Tensor:
        path = self._file[name]
        if path.suffix == ".bin":
            return _mapped(path)[name]
        with safe_open(path, "pt") as file:  # opened each time: a file held open keeps every page that was read
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def read_bin(path: Path) -> dict[str, Tensor]:
    """The tensors of one `.bin` file, mapped into memory; a file with code in it is refused like a damaged one."""
    try:
        return _mapped(path)
    except Exception as error:
        raise UserError(f"{path}: damaged or no file of tensors ({_first_line(error)}); fetch it again") from None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        raise UserError(f"{path}: missing, though the index beside it names it; fetch it again")
    if path.suffix == ".bin":
        return {name: tuple(tensor.shape) for name, tensor in read_bin(path).items()}
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({_first_line(error)}); fetch it again") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shards(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.index.json"
    if index.is_file():
        try:
            shards = set(read_json(index)["weight_map"].values())
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{index}: damaged, holds no weight_map; fetch it again") from None
        return sorted(inside(folder, shard) for shard in shards)
    return [folder / name] if (folder / name).is_file() else []


def _mapped(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
