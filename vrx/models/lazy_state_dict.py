"""The tensors of a checkpoint folder, each read from disk on access."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vrx.config.errors import UserError
from vrx.config.paths import inside
from vrx.models.file_names import MODEL_WEIGHTS, indexed_files, shard_index
from vrx.runs.files import refuse_pointer


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
        refuse_pointer(path)
        return _mapped(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: damaged or not a file of tensors ({_first_line(error)}); download it again") from None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        raise UserError(f"{path}: missing, although the index names it; download it again")
    if path.suffix == ".bin":
        return {name: tuple(tensor.shape) for name, tensor in read_bin(path).items()}
    refuse_pointer(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({_first_line(error)}); download it again") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shards(folder: Path, name: str) -> list[Path]:
    if (folder / name).is_file():  # an index beside it is left over from an earlier save, as for transformers
        return [folder / name]
    return [inside(folder, shard) for shard in indexed_files(shard_index(folder, name))]


def _mapped(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        return _read_old(path, path.stat().st_mtime_ns)
    return _tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


@functools.lru_cache(maxsize=2)
def _read_old(path: Path, _: int) -> dict[str, Tensor]:
    """A file of PyTorch before 1.6, which cannot be mapped; it is read as a whole, and not for each tensor again."""
    return _tensors(torch.load(path, map_location="cpu", weights_only=True))


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TypeError(f"holds {type(content).__name__}, not tensors by name")
    return {str(name): tensor for name, tensor in content.items()}
