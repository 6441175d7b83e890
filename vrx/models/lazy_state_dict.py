"""The tensors of a checkpoint folder, each read from disk on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.models.file_names import MODEL_WEIGHTS, shard_index
from vrx.runs.files import read_json


class LazyStateDict(Mapping[str, Tensor]):
    """The tensors of a checkpoint folder by name, each read from disk on access and not cached.

    Reads safetensors or, if there are none, `.bin` files (mapped into memory, without executing code), in one file or
    in shards with an index. shapes: of all tensors, known without reading them. `UserError` names a missing or damaged
    file.
    """

    def __init__(self, folder: Path, names: Sequence[str] = MODEL_WEIGHTS) -> None:
        stored_name = next((name for name in names if _shards(folder, name)), None)
        if stored_name is None:
            raise UserError(f"{folder}: holds neither {' nor '.join(names)}, in one file or in shards")
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file: dict[str, Path] = {}
        for path in _shards(folder, stored_name):
            shapes = _shapes(path)
            self.shapes |= shapes
            self._file |= dict.fromkeys(shapes, path)

    def __getitem__(self, name: str) -> Tensor:
        path = self._file[name]
        if path.suffix == ".bin":
            return _mapped(path)[name]
        with safe_open(path, "pt") as file:  # an open file would keep every page read in memory
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def read_bin(path: Path) -> dict[str, Tensor]:
    """The tensors of one `.bin` file, mapped into memory; `UserError` for a damaged file or one that contains code."""
    try:
        return _mapped(path)
    except Exception as error:
        raise UserError(f"{path}: damaged or not a file of tensors ({_first_line(error)}); download it again") from None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        raise UserError(f"{path}: missing, although the index names it; download it again")
    if path.suffix == ".bin":
        return {name: tuple(tensor.shape) for name, tensor in read_bin(path).items()}
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({_first_line(error)}); download it again") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shards(folder: Path, name: str) -> list[Path]:
    index = shard_index(folder, name)
    if index.is_file():
        try:
            shards = set(read_json(index)["weight_map"].values())
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{index}: damaged, has no weight_map; download it again") from None
        return sorted(inside(folder, shard) for shard in shards)
    return [folder / name] if (folder / name).is_file() else []


def _mapped(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
